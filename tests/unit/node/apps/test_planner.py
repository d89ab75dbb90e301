"""An app's life, decided purely: what it waits for, when it runs, restarts, is purged, and goes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, Resources, VolumeRef
from edgevirt.model.base import Severity, SwState, Trouble
from edgevirt.model.baseos import BaseOsStatus, UpdateStep
from edgevirt.model.content import CipherBlock, ImageConfig
from edgevirt.model.domain import BootOrder, HostCapacity, VirtualizationMode
from edgevirt.model.hardware import Adapter
from edgevirt.model.ids import AppId, VolumeId
from edgevirt.model.kinds import (
    APP_INSTANCE_APPLIED,
    APP_NETWORK,
    APP_NETWORK_STATUS,
    BASE_OS_STATUS,
    DOMAIN,
    DOMAIN_STATUS,
    HOST_CAPACITY,
    NETWORK_INSTANCE_STATUS,
    PROPERTY,
    VOLUME_STATUS,
    VOLUME_USE,
)
from edgevirt.model.network import (
    Acl,
    AclAction,
    AppInterface,
    AppNetwork,
    NetworkInstanceState,
)
from edgevirt.model.node import Property
from edgevirt.node.apps.planner import assign_numbers
from tests.worlds.apps import APP, GIB_KIB, NETWORK, OTHER, VOLUME, Node, app, capacity, why

# -- the way up ---------------------------------------------------------------------------------


def test_each_wait_on_the_way_up_is_told_in_order() -> None:
    node = Node()
    node.want(app())
    status = node.plan()
    assert (status.state, status.what) == (SwState.INITIAL, f"waiting for volume {VOLUME}")
    node.volume_is(SwState.DOWNLOADING, progress=43)
    status = node.plan()
    assert (status.state, status.what) == (SwState.DOWNLOADING, "downloading 43% of volume root")
    assert status.progress == 43
    assert node.network() is None

    node.volume_is(SwState.CREATED_VOLUME)
    status = node.plan()
    assert status.state == SwState.AWAITNETWORKINSTANCE
    assert status.what == f"waiting for network instance {NETWORK}"

    node.network_instance_is(NetworkInstanceState.ONLINE)
    status = node.plan()
    assert (status.state, status.what) == (SwState.AWAITNETWORKINSTANCE, "waiting for its network")
    assert node.network() == AppNetwork(app=APP, name="web", app_num=1, interfaces=app().interfaces)
    assert node.last.get(DOMAIN, APP) is None

    node.connect()
    status = node.plan()
    assert (status.state, status.what) == (SwState.BOOTING, "starting")
    node.domain_is(SwState.RUNNING)
    node.now += 5
    status = node.plan()
    assert (status.state, status.what, status.activated) == (SwState.RUNNING, "running", True)
    assert status.since == node.now
    assert status.boot_time == node.now - 5
    assert status.ips == (("eth0", "10.1.0.5"),)


def test_domain_is_made_of_app_volumes_and_network() -> None:
    node = Node()
    cipher = CipherBlock(context_id="c", initial_value=b"i", data=b"d", clear_sha256=b"s")
    node.run(app(user_data="QT0x", cipher=cipher))
    domain = node.domain()
    assert domain.name == f"{APP}.1.1"
    assert (domain.memory_kib, domain.vcpus) == (65_536, 2)
    assert domain.volumes[0].path == f"/volumes/{VOLUME}#0"
    assert domain.volumes[0].layers == ("/layers/1", "/layers/2")
    assert domain.image == ImageConfig(cmd=("serve",))
    assert (domain.netns, domain.dns) == ("/run/netns/a", ("10.1.0.1",))
    assert (domain.user_data, domain.has_secret) == ("QT0x", True)


def test_app_without_interfaces_waits_for_no_network() -> None:
    node = Node()
    status = node.run(app(interfaces=()))
    assert status.state == SwState.RUNNING
    assert node.network() is None
    assert node.domain().netns == ""


def test_volume_furthest_behind_tells_and_progress_is_of_all() -> None:
    second = VolumeId("b0000000-0000-4000-8000-000000000002")
    node = Node()
    node.want(app(volumes=(VolumeRef(volume=VOLUME), VolumeRef(volume=second, mount_dir="/d"))))
    node.volume_is(SwState.CREATED_VOLUME)
    node.volume_is(SwState.DOWNLOADING, volume=second, name="data", progress=20)
    status = node.plan()
    assert (status.what, status.progress) == ("downloading 20% of volume data", 60)


def test_trouble_of_a_volume_is_the_app_s_with_its_next_try() -> None:
    node = Node()
    node.want(app())
    trouble = Trouble(why="cannot download: 404", since=900.0, retry_at=1600.0)
    node.volume_is(SwState.DOWNLOADING, trouble=trouble)
    status = node.plan()
    assert status.trouble == trouble
    node.volume_is(SwState.LOADED)
    assert node.plan().trouble is None


def test_trouble_of_a_network_instance_is_the_app_s() -> None:
    node = Node()
    node.want(app())
    node.volume_is(SwState.CREATED_VOLUME)
    trouble = Trouble(why="cannot use subnet: overlap", since=900.0)
    node.network_instance_is(NetworkInstanceState.ERROR, trouble=trouble)
    status = node.plan()
    assert (status.state, status.trouble) == (SwState.AWAITNETWORKINSTANCE, trouble)
    assert status.what == "waiting for network instance local"


def test_mode_that_the_node_lacks_is_told_at_once_and_the_images_still_come() -> None:
    node = Node()
    node.want(app(resources=Resources(memory_kib=1, mode=VirtualizationMode.HVM)))
    node.volume_is(SwState.DOWNLOADING, progress=1)
    status = node.plan()
    assert status.state == SwState.DOWNLOADING
    assert why(status) == "cannot run: this node has no hypervisor for virtualization mode HVM"
    assert status.trouble is not None
    assert "with QEMU installed" in status.trouble.hint
    assert "a container can run without virtualization" in status.trouble.hint
    node.volume_is(SwState.CREATED_VOLUME)
    assert node.plan().state == SwState.INSTALLED
    assert node.last.get(DOMAIN, APP) is None


def test_inactive_app_is_installed_and_nothing_of_it_runs() -> None:
    node = Node()
    node.want(app(activate=False))
    node.volume_is(SwState.CREATED_VOLUME)
    status = node.plan()
    assert (status.state, status.what, status.activated) == (SwState.INSTALLED, "stopped", False)
    assert node.last.get(DOMAIN, APP) is None
    assert node.network() is None


def test_delayed_app_waits_from_the_service_s_start_and_asks_to_be_planned_again() -> None:
    node = Node()
    node.want(app(delay=60))
    node.volume_is(SwState.CREATED_VOLUME)
    node.network_instance_is(NetworkInstanceState.ONLINE)
    node.now += 20
    status = node.plan()
    assert status.state == SwState.START_DELAYED
    assert node.last.again == 40.0
    node.now += 40
    assert node.plan().state == SwState.AWAITNETWORKINSTANCE
    assert node.last.again is None


def test_delay_does_not_hold_up_a_later_start() -> None:
    node = Node()
    node.run(app(delay=0))
    node.want(app(delay=3600, activate=False))
    node.plan()
    node.domain_is(SwState.HALTED)
    node.plan()
    node.want(app(delay=3600))
    assert node.plan().state == SwState.BOOTING


# -- memory -------------------------------------------------------------------------------------


def test_app_that_does_not_fit_says_how_much_is_free_and_waits_until_memory_is_freed() -> None:
    node = Node()
    node.put(HOST_CAPACITY, "node", capacity(3 * 102_400))
    big = Resources(memory_kib=150_000, mode=VirtualizationMode.NOHYPER)
    first = app(resources=big, interfaces=())
    second = app(id=OTHER, resources=big, interfaces=(), volumes=())
    node.want(first, second)
    node.volume_is(SwState.CREATED_VOLUME)
    node.plan()
    node.domain_is(SwState.RUNNING)
    status = node.plan_any(OTHER)
    assert status is not None
    assert status.state == SwState.INSTALLED
    assert why(status) == (
        "cannot start: it needs 146 MiB, 53 MiB of this node's 200 MiB for apps are free"
    )

    node.want(replace(first, activate=False), second)
    assert (node.plan_any(OTHER) or status).state == SwState.INSTALLED
    node.domain_is(SwState.HALTED)
    node.plan()
    status = node.plan_any(OTHER)
    assert status is not None
    assert (status.state, status.trouble) == (SwState.BOOTING, None)


def test_reserve_of_the_node_is_a_property_and_the_check_can_be_off() -> None:
    node = Node()
    node.put(HOST_CAPACITY, "node", capacity(GIB_KIB))
    node.put(PROPERTY, "memory.eve.limit.MiB", Property(value="1000"))
    node.want(app(interfaces=()))
    node.volume_is(SwState.CREATED_VOLUME)
    status = node.plan()
    assert why(status) == "cannot start: it needs 64 MiB, this node has 24 MiB for all apps"
    assert status.what == "cannot run here"  # no other app stands in its way
    node.put(PROPERTY, "memory.apps.ignore.check", Property(value="true"))
    assert node.plan().state == SwState.BOOTING


# -- one volume, two apps -------------------------------------------------------------------------


def test_a_volume_that_two_may_write_to_is_one_app_s_at_a_time() -> None:
    node = Node()
    other = app(id=OTHER, name="second", interfaces=())
    node.want(app(interfaces=()), other)
    node.volume_is(SwState.CREATED_VOLUME)
    node.plan()
    assert node.domain().activate
    status = node.plan_any(OTHER)
    assert status is not None
    words = 'volume root is used by app "web", and both may write to it'
    assert why(status) == f"cannot start: {words}"
    node.want(app(interfaces=(), activate=False), other)
    node.plan()
    node.domain_is(SwState.HALTED)
    node.plan()
    assert node.domain(OTHER).activate


def test_a_read_only_volume_is_shared() -> None:
    node = Node()
    shared, second = VolumeId("shared"), VolumeId("second")
    more = VolumeRef(volume=shared, mount_dir="/shared")
    node.want(
        app(interfaces=(), volumes=(VolumeRef(volume=VOLUME), more)),
        app(id=OTHER, interfaces=(), volumes=(VolumeRef(volume=second), more)),
    )
    for own in (VOLUME, second):
        node.volume_is(SwState.CREATED_VOLUME, volume=own)
    node.volume_is(SwState.CREATED_VOLUME, volume=shared, readonly=True)
    node.plan()
    assert node.domain(APP).activate
    assert node.domain(OTHER).activate


def test_but_not_a_container_s_own_image_which_gets_directories_to_mount_on() -> None:
    node = Node()
    node.want(app(interfaces=()), app(id=OTHER, interfaces=()))
    node.volume_is(SwState.CREATED_VOLUME, readonly=True)
    node.plan()
    assert node.domain(APP).activate
    status = node.plan_any(OTHER)
    assert status is not None
    assert "both may write to it" in why(status)


# -- processors of its own ------------------------------------------------------------------------


def dedicated(id: AppId, vcpus: int, **fields: Any) -> AppInstance:
    mode = VirtualizationMode.NOHYPER
    resources = Resources(memory_kib=65_536, vcpus=vcpus, mode=mode, dedicated=True)
    name = f"rt-{vcpus}"
    return app(id=id, resources=resources, interfaces=(), volumes=(), name=name, **fields)


def machine_of(*cores: tuple[int, ...], no_cores: str = "") -> HostCapacity:
    return replace(capacity(4 * GIB_KIB), cores=cores, no_cores=no_cores)


def test_processors_of_its_own_are_held_until_the_app_has_ended() -> None:
    node = Node()
    node.put(HOST_CAPACITY, "node", machine_of((1,), (2,), (3,)))
    first, second = dedicated(APP, 2), dedicated(OTHER, 2)
    node.want(first, second)
    node.volume_is(SwState.CREATED_VOLUME)
    node.plan()
    assert node.domain().cpus == (1, 2)
    node.domain_is(SwState.RUNNING)
    status = node.plan_any(OTHER)
    assert status is not None
    assert (status.state, status.what) == (SwState.INSTALLED, "waiting for processors")
    held = "1 of 3 are free: others are held by rt-2"
    assert why(status) == f"cannot start: it needs 2 processors of its own, {held}"

    node.want(replace(first, activate=False), second)
    node.plan_any(OTHER)
    assert node.last.get(DOMAIN, OTHER) is None, "while the first still runs"
    node.domain_is(SwState.HALTED)
    node.plan()
    assert node.domain(OTHER).cpus == (1, 2)


def test_core_is_given_whole_and_an_app_keeps_its_cores_over_a_restart() -> None:
    node = Node()
    node.put(HOST_CAPACITY, "node", machine_of((1, 5), (2, 6), (3, 7)))
    one, more = dedicated(APP, 1), dedicated(OTHER, 3)
    node.want(more)
    node.volume_is(SwState.CREATED_VOLUME)
    node.plan_any(OTHER)
    assert node.domain(OTHER).cpus == (1, 5, 2, 6)
    node.want(one, more)
    node.plan()
    assert node.domain().cpus == (3, 7)
    node.domain_is(SwState.RUNNING, OTHER)
    node.domain_is(SwState.RUNNING)
    node.want(replace(one, restart_counter=1, version="2"))
    node.plan_any(OTHER)
    node.plan()
    assert node.domain().cpus == (3, 7)


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (machine_of((1,)), "this node has 1 to give, the first core is for all"),
        (machine_of(no_cores="it is Xen's"), "this node has 0 to give: it is Xen's"),
    ],
)
def test_app_that_can_never_have_its_processors_says_what_there_is(
    machine: HostCapacity, reason: str
) -> None:
    node = Node()
    node.put(HOST_CAPACITY, "node", machine)
    node.want(dedicated(APP, 2))
    node.volume_is(SwState.CREATED_VOLUME)
    status = node.plan()
    assert (status.state, status.what) == (SwState.INSTALLED, "cannot run here")
    assert why(status) == f"cannot start: it needs 2 processors of its own, {reason}"


# -- stop, start, crash -------------------------------------------------------------------------


def test_deactivated_app_stops_and_stays_stopped_with_its_state_kept() -> None:
    node = Node()
    node.run()
    node.want(app(activate=False))
    status = node.plan()
    assert (status.state, status.activated) == (SwState.HALTING, False)
    assert not node.domain().activate
    network = node.network()
    assert network is not None
    assert network.activate

    node.domain_is(SwState.HALTING)
    assert node.plan().state == SwState.HALTING
    node.domain_is(SwState.HALTED)
    status = node.plan()
    assert (status.state, status.what) == (SwState.HALTED, "stopped")
    network = node.network()
    assert network is not None
    assert not network.activate

    node.want(app())
    node.plan()
    assert (node.domain().activate, node.domain().generation) == (True, 2)


def test_why_a_running_app_crashed_is_told_unless_there_is_worse() -> None:
    node = Node()
    node.run()
    crash = Trouble(why="cannot keep running: exit code 1", since=990.0, severity=Severity.NOTICE)
    node.domain_is(SwState.RUNNING, crashes=1, trouble=crash)
    status = node.plan()
    assert (status.state, status.restarts, status.trouble) == (SwState.RUNNING, 1, crash)
    worse = Trouble(why="cannot map TCP port 80: taken", since=995.0)
    ready = node.inputs[APP_NETWORK_STATUS][APP]
    node.put(APP_NETWORK_STATUS, APP, replace(ready, trouble=worse))
    status = node.plan()
    assert (status.trouble, status.end) == (worse, crash), "the controller counts it all the same"


def test_crashing_app_tells_state_trouble_and_restarts_of_its_domain() -> None:
    node = Node()
    node.run()
    trouble = Trouble(why="cannot keep running: exit code 1", since=990.0, retry_at=1004.0)
    node.domain_is(SwState.HALTED, crashes=3, trouble=trouble, boot_time=990.0)
    status = node.plan()
    assert (status.state, status.restarts) == (SwState.HALTED, 3)
    assert status.boot_time == 990.0, "the fleet counts restarts by it"
    assert status.what == "waiting to be started again"
    assert status.trouble == trouble
    assert node.domain().activate


def test_running_app_is_told_of_unchanged_when_other_services_restart() -> None:
    node = Node()
    node.run()
    domain, network = node.domain(), node.network()
    node.forget(VOLUME_STATUS, NETWORK_INSTANCE_STATUS, APP_NETWORK_STATUS, DOMAIN_STATUS)
    node.drop(HOST_CAPACITY, "node")
    node.plan()
    assert (node.domain(), node.network()) == (domain, network)


def test_restarted_apps_service_wants_the_very_same_domain() -> None:
    node = Node()
    node.run()
    domain, network = node.domain(), node.network()
    node.forget(DOMAIN, APP_NETWORK, VOLUME_STATUS, APP_NETWORK_STATUS)
    status = node.plan()
    assert (node.domain(), node.network()) == (domain, network)
    assert status.state == SwState.RUNNING


def test_while_an_update_is_tested_nothing_is_started_and_nothing_is_stopped() -> None:
    node = Node()
    node.run()
    domain = node.domain()
    testing = BaseOsStatus(step=UpdateStep.TESTING, since=0.0, updating=True)
    node.put(BASE_OS_STATUS, "node", testing)
    node.plan()
    assert node.domain() == domain
    other = Node()
    other.put(BASE_OS_STATUS, "node", testing)
    other.want(app())
    other.volume_is(SwState.CREATED_VOLUME)
    other.network_instance_is(NetworkInstanceState.ONLINE)
    assert "update" in other.plan().what
    assert other.network() is None
    other.drop(BASE_OS_STATUS, "node")
    assert "update" in other.plan().what, "who has not spoken may be testing"
    other.put(BASE_OS_STATUS, "node", BaseOsStatus(step=UpdateStep.DONE, since=0.0))
    other.plan()
    assert other.network() is not None


def test_after_a_restart_of_the_node_every_gate_is_passed_anew() -> None:
    node = Node()
    node.run()
    node.boot = "boot 2"
    node.forget(VOLUME_STATUS, NETWORK_INSTANCE_STATUS, APP_NETWORK_STATUS, DOMAIN_STATUS)
    assert node.plan().state == SwState.INITIAL
    assert node.last.get(DOMAIN, APP) is None
    assert node.run().state == SwState.RUNNING


# -- restart ------------------------------------------------------------------------------------


def test_restart_counter_restarts_and_is_done_when_it_runs_again() -> None:
    node = Node()
    assert node.run().restart_counter == 0
    node.want(app(restart_counter=1))
    status = node.plan()
    assert node.domain().generation == 2
    assert node.domain().activate
    assert (status.state, status.restart_counter) == (SwState.BOOTING, 0)
    node.domain_is(SwState.RUNNING)
    status = node.plan()
    assert (status.state, status.restart_counter) == (SwState.RUNNING, 1)


def test_restart_of_an_inactive_app_is_ignored() -> None:
    node = Node()
    node.run()
    node.want(app(activate=False))
    node.plan()
    node.domain_is(SwState.HALTED)
    node.plan()
    node.want(app(activate=False, restart_counter=5))
    status = node.plan()
    assert (status.state, status.restart_counter) == (SwState.HALTED, 5)
    assert not node.domain().activate


def test_changed_resources_without_a_restart_are_refused_and_the_app_runs_on() -> None:
    node = Node()
    node.run()
    domain = node.domain()
    bigger = Resources(memory_kib=131_072, vcpus=2, mode=VirtualizationMode.NOHYPER)
    node.want(app(resources=bigger, version="2"))
    status = node.plan()
    assert status.state == SwState.RUNNING
    assert why(status) == "Need restart due to changed resources but not a restartCmd"
    assert status.version == "1"
    assert node.domain() == domain
    since = status.trouble.since if status.trouble is not None else None
    node.now += 100
    status = node.plan()
    assert status.trouble is not None
    assert status.trouble.since == since

    node.want(app(resources=bigger, version="2", restart_counter=1))
    status = node.plan()
    assert status.trouble is None
    assert status.version == "2"
    assert (node.domain().memory_kib, node.domain().generation) == (131_072, 2)


def test_restart_that_no_longer_fits_leaves_the_app_running() -> None:
    node = Node()
    node.run()
    huge = Resources(memory_kib=64 * GIB_KIB, mode=VirtualizationMode.NOHYPER)
    node.want(app(resources=huge, restart_counter=1))
    status = node.plan()
    assert status.state == SwState.RUNNING
    assert status.what == "running; restarting: cannot run here"
    assert "cannot start: it needs" in why(status)
    assert node.domain().generation == 1


def test_changed_access_rules_apply_at_once_and_restart_nothing() -> None:
    node = Node()
    node.run()
    domain = node.domain()
    rule = Acl(id=1, matches=(("host", "example.org"),), action=AclAction.ALLOW)
    node.want(app(interfaces=(AppInterface(name="inside", network=NETWORK, acls=(rule,)),)))
    status = node.plan()
    network = node.network()
    assert network is not None
    assert network.interfaces[0].acls == (rule,)
    assert node.domain() == domain
    assert (status.what, status.trouble) == ("running", None)


def test_access_rule_that_networks_cannot_apply_is_told_while_the_app_runs() -> None:
    node = Node()
    node.run()
    trouble = Trouble(why="cannot connect web: port 80 is taken", since=990.0)
    ready = node.inputs[APP_NETWORK_STATUS][APP]
    node.put(APP_NETWORK_STATUS, APP, replace(ready, trouble=trouble))
    status = node.plan()
    assert (status.state, status.trouble) == (SwState.RUNNING, trouble)


def test_changed_addresses_wait_silently_for_a_restart_that_reconnects() -> None:
    node = Node()
    node.run()
    moved = (AppInterface(name="inside", network=NETWORK, mac="02:00:00:00:00:09", ip="10.1.0.9"),)
    node.want(app(interfaces=moved))
    status = node.plan()
    assert (status.what, status.trouble) == ("running; changes wait for a restart", None)
    network = node.network()
    assert network is not None
    assert network.interfaces[0].ip == ""

    node.want(app(interfaces=moved, restart_counter=1))
    node.plan()
    assert not node.domain().activate
    node.domain_is(SwState.HALTED)
    assert node.plan().what == "waiting for its network"
    network = node.network()
    assert network is not None
    assert network.interfaces == moved
    node.connect()
    node.plan()
    assert (node.domain().activate, node.domain().generation) == (True, 2)


def test_a_changed_order_of_boot_is_told_and_waits_for_a_restart() -> None:
    node = Node()
    node.run()
    usb = replace(app().resources, boot_order=BootOrder.USB)
    node.want(app(resources=usb, version="2"))
    status = node.plan()
    assert why(status) == "BootOrder changed from UNSPECIFIED to USB - restart required to apply"
    assert status.trouble is not None
    assert status.trouble.severity is Severity.WARNING
    assert (status.state, node.domain().boot_order) == (SwState.RUNNING, BootOrder.UNSPECIFIED)
    node.want(app(resources=usb, version="2", restart_counter=1))
    assert node.plan().trouble is None
    assert (node.domain().boot_order, node.domain().generation) == (BootOrder.USB, 2)


def test_a_property_orders_the_boot_of_an_app_that_does_not_itself() -> None:
    node = Node()
    node.put(PROPERTY, "app.boot.order", Property(value="nousb"))
    node.run()
    assert node.domain().boot_order is BootOrder.NO_USB
    node = Node()
    node.put(PROPERTY, "app.boot.order", Property(value="nousb"))
    node.run(app(resources=replace(app().resources, boot_order=BootOrder.USB)))
    assert node.domain().boot_order is BootOrder.USB


# -- purge --------------------------------------------------------------------------------------

NEW = (VolumeRef(volume=VOLUME, generation=1),)


def test_changed_volumes_without_a_purge_are_refused_and_the_app_runs_on() -> None:
    node = Node()
    node.run()
    domain = node.domain()
    node.want(app(volumes=NEW, adapters=(Adapter(name="gpu"),)))
    status = node.plan()
    assert why(status) == (
        "Need purge due to changed volumes but not a purgeCmd; "
        "Need purge due to changed adapters but not a purgeCmd"
    )
    assert node.domain() == domain


def test_restart_without_a_purge_keeps_the_old_volumes() -> None:
    node = Node()
    node.run()
    node.want(app(volumes=NEW, restart_counter=1))
    node.plan()
    assert node.domain().generation == 2
    assert node.domain().volumes[0].path == f"/volumes/{VOLUME}#0"
    node.domain_is(SwState.RUNNING)
    assert why(node.plan()) == "Need purge due to changed volumes but not a purgeCmd"


def test_purge_fetches_the_new_while_the_old_runs_then_changes_over() -> None:
    node = Node()
    node.run()
    old = node.domain()
    node.want(app(volumes=NEW, purge_counter=1, version="2"))
    node.volume_is(SwState.DOWNLOADING, generation=1, progress=30)
    status = node.plan()
    assert node.domain() == old
    assert status.state == SwState.RUNNING
    assert status.what == "running; purging: downloading 30% of volume root"
    assert status.progress == 30
    assert set(node.last.all(VOLUME_USE)) == {f"{VOLUME}#0"}

    node.volume_is(SwState.CREATED_VOLUME, generation=1)
    assert node.plan().state == SwState.HALTING
    assert node.domain() == replace(old, activate=False)
    assert set(node.last.all(VOLUME_USE)) == {f"{VOLUME}#0"}

    node.domain_is(SwState.HALTED)
    status = node.plan()
    assert set(node.last.all(VOLUME_USE)) == {f"{VOLUME}#1"}
    assert (node.domain().activate, node.domain().generation) == (True, 2)
    assert node.domain().volumes[0].path == f"/volumes/{VOLUME}#1"
    assert status.purge_counter == 0
    node.domain_is(SwState.RUNNING)
    status = node.plan()
    assert (status.purge_counter, status.version) == (1, "2")


def test_purge_that_cannot_fetch_tells_why_and_the_old_runs_on() -> None:
    node = Node()
    node.run()
    node.want(app(volumes=NEW, purge_counter=1))
    trouble = Trouble(why="cannot download: 404", since=999.0, retry_at=1600.0)
    node.volume_is(SwState.DOWNLOADING, generation=1, trouble=trouble)
    status = node.plan()
    assert (status.state, status.trouble) == (SwState.RUNNING, trouble)
    node.want(app())
    status = node.plan()
    assert (status.what, status.trouble) == ("running", None)


def test_purge_interrupted_by_a_restart_of_the_node_runs_the_old_until_the_new_is_there() -> None:
    node = Node()
    node.run()
    node.want(app(volumes=NEW, purge_counter=1))
    node.volume_is(SwState.DOWNLOADING, generation=1)
    node.plan()
    node.boot = "boot 2"
    node.forget(DOMAIN_STATUS, VOLUME_STATUS)
    assert node.plan().state == SwState.INITIAL
    assert set(node.last.all(VOLUME_USE)) == {f"{VOLUME}#0"}
    node.volume_is(SwState.DOWNLOADING, generation=1)
    assert node.plan().what == "downloading 0% of volume root"
    node.volume_is(SwState.CREATED_VOLUME, generation=0)
    node.plan()
    assert node.domain().volumes[0].path == f"/volumes/{VOLUME}#0"
    node.domain_is(SwState.RUNNING)
    status = node.plan()
    assert (status.state, status.purge_counter) == (SwState.RUNNING, 0)
    node.volume_is(SwState.CREATED_VOLUME, generation=1)
    node.plan()
    node.domain_is(SwState.HALTED)
    node.plan()
    assert node.domain().volumes[0].path == f"/volumes/{VOLUME}#1"


def test_purge_interrupted_when_the_old_volumes_are_lost_goes_on_to_the_new() -> None:
    node = Node()
    node.run()
    node.want(app(volumes=NEW, purge_counter=1))
    node.plan()
    node.boot = "boot 2"
    node.drop(DOMAIN_STATUS, APP)
    node.drop(VOLUME_STATUS, f"{VOLUME}#0")
    node.volume_is(SwState.CREATED_VOLUME, generation=1)
    node.plan()
    assert node.domain().volumes[0].path == f"/volumes/{VOLUME}#1"


# -- the way out --------------------------------------------------------------------------------


def test_deleted_app_halts_then_its_network_goes_then_all_of_it() -> None:
    node = Node()
    node.run()
    node.want()
    status = node.plan()
    assert (status.state, status.what) == (SwState.HALTING, "being removed")
    assert node.last.get(DOMAIN, APP) is None
    assert node.network() is not None
    assert set(node.last.all(VOLUME_USE)) == {f"{VOLUME}#0"}

    node.drop(DOMAIN_STATUS, APP)
    assert node.plan().state == SwState.HALTING
    assert node.network() is None
    assert node.last.all(VOLUME_USE) == {}
    node.drop(APP_NETWORK_STATUS, APP)
    assert node.plan_any() is None
    assert all(not values for values in node.last.outputs.values())


def test_app_deleted_while_it_downloads_leaves_nothing() -> None:
    node = Node()
    node.want(app())
    node.volume_is(SwState.DOWNLOADING)
    node.plan()
    node.want()
    assert node.plan_any() is None
    assert all(not values for values in node.last.outputs.values())


def test_app_that_comes_back_while_it_leaves_is_another_generation() -> None:
    node = Node()
    node.run()
    node.want()
    node.plan()
    node.want(app())
    node.plan()
    assert node.domain().generation == 2


def test_numbers_are_the_smallest_free_and_stay() -> None:
    assert assign_numbers(["b", "a"], {}) == {"a": 1, "b": 2}
    assert assign_numbers(["c", "b"], {"b": 2}) == {"b": 2, "c": 1}
    assert assign_numbers(["c"], {"a": 1, "b": 2}) == {"a": 1, "b": 2, "c": 3}


def test_number_of_a_leaving_app_is_not_given_away() -> None:
    node = Node()
    node.run()
    node.want(app(id=OTHER, interfaces=(), volumes=()))
    status = node.plan_any(OTHER)
    assert status is not None
    assert status.app_num == 2


def test_what_is_applied_is_not_for_others_to_read() -> None:
    assert APP_INSTANCE_APPLIED.readers == frozenset({"apps"})
    assert APP_INSTANCE_APPLIED.persistent


# -- a TPM of its own ------------------------------------------------------------------------------


@pytest.mark.parametrize(("why_not", "told"), [("Xen's domains have none", True), ("", False)])
def test_a_tpm_that_the_node_cannot_give_is_told_and_the_app_runs(why_not: str, told: bool) -> None:
    node = Node()
    modes = (VirtualizationMode.PV,)
    has = replace(capacity(4 * GIB_KIB), modes=modes, no_tpm=why_not)
    node.put(HOST_CAPACITY, "node", has)
    machine = Resources(memory_kib=65_536, mode=VirtualizationMode.PV, tpm=True)
    node.want(app(resources=machine, interfaces=()))
    node.volume_is(SwState.CREATED_VOLUME)
    node.plan()
    assert node.domain().tpm
    node.domain_is(SwState.RUNNING)
    status = node.plan()
    assert status.state == SwState.RUNNING
    assert (status.trouble is not None) == told
    if status.trouble is not None:
        assert status.trouble.severity == Severity.NOTICE
        assert "without a virtual TPM: Xen's" in status.trouble.why


@pytest.mark.parametrize(("asked", "told"), [(2, False), (64, True)])
def test_an_app_that_asks_for_more_processors_than_there_are_runs_and_it_is_told(
    asked: int, told: bool
) -> None:
    node = Node()
    has = HostCapacity(memory_kib=1 << 21, cpus=2, modes=(VirtualizationMode.PV,))
    node.put(HOST_CAPACITY, "node", has)
    machine = Resources(memory_kib=65_536, vcpus=asked, mode=VirtualizationMode.PV)
    node.want(app(resources=machine, interfaces=()))
    node.volume_is(SwState.CREATED_VOLUME)
    node.plan()
    node.domain_is(SwState.RUNNING)
    status = node.plan()
    assert status.state == SwState.RUNNING
    assert (status.trouble is not None) == told
    if status.trouble is not None:
        assert status.trouble.severity == Severity.NOTICE
        assert status.trouble.why == ("has 2 of the 64 CPUs that it asks for: the node has no more")
