"""From objects to a node's config: complete, the same each time, and safe to apply."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet import render
from edgevirt.fleet.objects.app.app import EnvVar
from edgevirt.fleet.objects.app.interface import AclLimit, AclMatch, AppAcl, AppInterface
from edgevirt.fleet.objects.app.volume import AppVolume
from edgevirt.fleet.objects.base.object import LocalRef
from edgevirt.fleet.objects.network_instance import DhcpRange
from edgevirt.fleet.objects.node.os import NodeOS
from edgevirt.fleet.objects.node.port import NodePort, NodeProxy, ProxyServer
from edgevirt.fleet.objects.software.os_image import OSImage, OSImageSpec
from edgevirt.fleet.render import Cipher, Credentials, Objects
from edgevirt.model.domain import BootMode, VirtualizationMode
from edgevirt.model.network import AclAction, NetworkInstanceType
from edgevirt.model.node import DeviceConfig
from edgevirt.model.volume import VolumeOrigin
from edgevirt.wire import cipher
from edgevirt.wire.convert import contents
from edgevirt.wire.convert import device as convert
from edgevirt.wire.messages import config
from tests.unit.fleet.objects_world import (
    APP,
    IMAGE,
    INSTANCE,
    LAN,
    NODE,
    OBJECTS,
    STORE,
    changed,
    having,
    meta,
)


def rendered(objects: Objects = OBJECTS) -> DeviceConfig:
    result = render.render(objects)
    assert result.waiting == {}
    return result.config


def message(objects: Objects = OBJECTS) -> config.EdgeDevConfig:
    return convert.to_message(rendered(objects))


def with_app(**spec: Any) -> Objects:
    return having(apps={"web": changed(APP, **spec)})


@pytest.fixture(scope="module")
def secret() -> Cipher:
    ours, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    key = cipher.shared_key(ours, theirs.public_key())
    return render.make_cipher(OBJECTS.node_id, bytes(16), bytes(range(16)), key)


def test_the_same_objects_make_the_same_bytes(secret: Cipher) -> None:
    objects = having(credentials={"hub": Credentials("u", "p")}, cipher=secret)
    once, again = (message(objects).SerializeToString(deterministic=True) for _ in range(2))
    assert once == again


def test_nodes_read_what_is_rendered() -> None:
    sent = message()
    read = convert.from_message(config.EdgeDevConfig.FromString(sent.SerializeToString()))
    assert read.apps == rendered().apps
    assert read.volumes == rendered().volumes
    assert read.network_instances == rendered().network_instances
    assert [(p.name, p.ifname, p.uplink, p.network) for p in read.ports] == [
        ("eth0", "eth0", True, "")
    ]


def test_an_app_comes_with_all_that_it_names() -> None:
    made = rendered()
    (app,), (tree,), (store,), (lan,) = (
        made.apps,
        made.content_trees,
        made.datastores,
        made.network_instances,
    )
    root, data = made.volumes
    assert [ref.volume for ref in app.volumes] == [root.id, data.id]
    assert [(ref.volume, ref.generation) for ref in app.volumes] == [
        (volume.id, volume.generation) for volume in made.volumes
    ]
    assert (root.origin, root.content_tree) == (VolumeOrigin.DOWNLOAD, tree.id)
    assert (data.origin, data.max_size) == (VolumeOrigin.BLANK, 10 << 20)
    assert tree.datastores == (store.id,)
    assert app.interfaces[0].network == lan.id
    assert app.resources.memory_kib == 256 * 1024


def test_what_nobody_uses_is_not_sent() -> None:
    made = rendered(having(instances=()))
    assert (made.apps, made.volumes, made.content_trees) == ((), (), ())
    assert (made.datastores, made.network_instances) == ((), ())


def test_user_data_holds_the_environment_and_the_command() -> None:
    app = rendered(with_app(env=(EnvVar(name="A", value="b c"),), command=("/bin/x", "y z"))).apps[
        0
    ]
    lines = base64.b64decode(app.user_data).decode().splitlines()
    assert "A=b c" in lines
    assert "EVE_ECO_CMD=/bin/x 'y z'" in lines


def test_ports_come_first_and_without_rules_all_may_pass() -> None:
    first, second = rendered().apps[0].interfaces[0].acls
    assert (first.id, first.action, first.app_port) == (1, AclAction.PORTMAP, 80)
    assert first.matches == (("protocol", "tcp"), ("lport", "8080"))
    assert (second.id, second.action, second.matches) == (
        2,
        AclAction.ALLOW,
        (("ip", "0.0.0.0/0"),),
    )


def test_rules_are_kept_in_their_order() -> None:
    rules = (
        AppAcl(match=AclMatch(host="example.com")),
        AppAcl(
            match=AclMatch(ip="192.0.2.0/24", protocol="UDP", remote_port=53),
            action="Limit",
            limit=AclLimit(rate=5, unit="m", burst=2),
        ),
        AppAcl(action="Drop"),
    )
    interface = AppInterface(name="eth0", network_instance="lan", acls=rules)
    made = rendered(with_app(interfaces=(interface,))).apps[0].interfaces[0].acls
    assert [acl.action for acl in made] == [AclAction.ALLOW, AclAction.LIMIT, AclAction.DROP]
    assert made[0].matches == (("host", "example.com"),)
    assert made[1].matches == (("ip", "192.0.2.0/24"), ("protocol", "udp"), ("fport", "53"))
    assert (made[1].limit_rate, made[1].limit_unit, made[1].limit_burst) == (5, "m", 2)


def test_no_rules_at_all_is_not_the_same_as_no_list_of_rules() -> None:
    interface = AppInterface(name="eth0", network_instance="lan", acls=())
    assert rendered(with_app(interfaces=(interface,))).apps[0].interfaces[0].acls == ()


def test_a_local_network_is_complete() -> None:
    lan = rendered().network_instances[0]
    assert (lan.type, lan.port, lan.subnet) == (
        NetworkInstanceType.LOCAL,
        "uplink",
        "10.1.0.0/24",
    )
    assert (lan.gateway, lan.dhcp_first, lan.dhcp_last) == ("10.1.0.1", "10.1.0.2", "10.1.0.254")
    chosen = changed(LAN, dhcp_range=DhcpRange(first="10.1.0.100", last="10.1.0.110"))
    narrow = rendered(having(networks={"lan": chosen})).network_instances[0]
    assert (narrow.dhcp_first, narrow.dhcp_last) == ("10.1.0.100", "10.1.0.110")


def test_each_node_has_a_network_of_its_own() -> None:
    other = replace(OBJECTS, node=replace_uid(NODE))
    assert rendered(other).network_instances[0].id != rendered().network_instances[0].id


def replace_uid(value: Any) -> Any:
    uid = "99999999-2222-3333-4444-555555555555"
    return msgspec.structs.replace(value, metadata=msgspec.structs.replace(value.metadata, uid=uid))


# -- counters: what a node would otherwise refuse or overlook --


def counters(objects: Objects) -> tuple[int, int, tuple[int, ...]]:
    made = rendered(objects)
    app = made.apps[0]
    return app.restart_counter, app.purge_counter, tuple(v.generation for v in made.volumes)


def test_another_image_makes_the_root_anew_and_keeps_the_data() -> None:
    restart, purge, (root, data) = counters(OBJECTS)
    other = having(images={"nginx": changed(IMAGE, reference="nginx:1.26")})
    new_restart, new_purge, (new_root, new_data) = counters(other)
    assert (new_restart, new_data) == (restart, data)
    assert new_purge != purge
    assert new_root != root


@pytest.mark.parametrize(
    "spec",
    [
        {"env": (EnvVar(name="COLOUR", value="red"),)},
        {"resources": type(APP.spec.resources)(memory="512Mi")},
        {"command": ("/other",)},
    ],
)
def test_other_resources_or_data_restart_the_app(spec: dict[str, Any]) -> None:
    restart, purge, generations = counters(OBJECTS)
    new_restart, new_purge, new_generations = counters(with_app(**spec))
    assert new_restart != restart
    assert (new_purge, new_generations) == (purge, generations)


def test_other_access_rules_do_not_restart_the_app() -> None:
    interface = AppInterface(name="eth0", network_instance="lan", acls=(AppAcl(),))
    assert counters(with_app(interfaces=(interface,))) == counters(OBJECTS)


def test_people_s_counters_count() -> None:
    restart, purge, generations = counters(OBJECTS)
    again = having(instances=(changed(INSTANCE, restart_counter=1),))
    assert counters(again) == (restart + 1, purge, generations)
    anew = counters(having(instances=(changed(INSTANCE, purge_counter=1),)))
    assert anew[1] != purge
    assert anew[2] == tuple(generation + 1 for generation in generations)


def test_counters_stay_within_32_bits() -> None:
    most = 2**32 - 1
    made = counters(
        having(instances=(changed(INSTANCE, restart_counter=most, purge_counter=most),))
    )
    assert all(0 <= counter < 2**32 for counter in (made[0], made[1], *made[2]))


def test_reboot_counters_are_always_told() -> None:
    """Nodes record the first that they see, and act on the next."""
    made = message()
    assert made.HasField("reboot")
    assert made.HasField("shutdown")
    assert message(having(node=changed(NODE, reboot_counter=3))).reboot.counter == 3


def test_a_node_that_may_not_work_halts_its_apps_and_keeps_their_data() -> None:
    made = rendered(having(node=changed(NODE, activate=False)))
    assert [app.activate for app in made.apps] == [False]
    assert made.volumes == rendered().volumes


# -- what is missing --


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        (having(apps={}), "App 'web' does not exist"),
        (having(images={}), "Image 'nginx' does not exist"),
        (having(networks={}), "NetworkInstance 'lan' does not exist"),
    ],
)
def test_an_app_that_lacks_a_part_stays_out_and_says_so(objects: Objects, why: str) -> None:
    result = render.render(objects)
    assert result.config.apps == ()
    assert why in result.waiting["web-1"]


def with_credentials(cipher_: Cipher | None, credentials: dict[str, Credentials]) -> Objects:
    store = changed(STORE, credentials_secret_ref=LocalRef(name="robot"))
    return having(datastores={"hub": store}, credentials=credentials, cipher=cipher_)


def test_a_password_is_encrypted_for_the_node(secret: Cipher) -> None:
    made = rendered(with_credentials(secret, {"hub": Credentials("robot", "hunter2")}))
    (store,) = made.datastores
    assert store.cipher is not None
    assert made.cipher_contexts == (secret.context,)
    assert (store.api_key, store.password) == ("", "")
    opened = cipher.open_secrets(secret.key, contents.cipher_block_message(store.cipher))
    assert (opened.dsAPIKey, opened.dsPassword) == ("robot", "hunter2")


def test_without_the_node_s_key_the_datastore_waits() -> None:
    result = render.render(with_credentials(None, {"hub": Credentials("robot", "hunter2")}))
    assert result.config.datastores == ()
    assert len(result.config.apps) == 1
    assert "encryption key" in result.waiting["web-1"]


def test_without_its_secret_the_datastore_waits(secret: Cipher) -> None:
    result = render.render(with_credentials(secret, {}))
    assert result.config.datastores == ()
    assert "Secret 'robot' cannot be read" in result.waiting["web-1"]


# -- ports --


def test_a_static_address_comes_with_a_network_of_its_own() -> None:
    port = NodePort(
        name="lan0", interface="enp3s0", address="192.0.2.7/24", gateway="192.0.2.1", cost=3
    )
    made = message(having(node=changed(NODE, ports=(port, NodePort(name="eth1", uplink=False)))))
    static, plain = made.systemAdapterList
    network = next(n for n in made.networks if n.id == static.networkUUID)
    assert (static.addr, static.cost, network.ip.subnet) == ("192.0.2.7", 3, "192.0.2.0/24")
    assert (plain.uplink, plain.networkUUID) == (False, "")
    assert made.deviceIoList[0].phyaddrs["ifname"] == "enp3s0"


def test_a_port_by_dhcp_may_have_settings_of_its_own() -> None:
    proxy = NodeProxy(servers=(ProxyServer(server="proxy.example", port=3128),))
    port = NodePort(name="eth0", dns=("192.0.2.53",), ntp=("192.0.2.1",), mtu=1400, proxy=proxy)
    made = message(having(node=changed(NODE, ports=(port,))))
    (network,) = made.networks
    assert (network.ip.dhcp, network.mtu, list(network.ip.dns)) == (4, 1400, ["192.0.2.53"])
    assert network.ip.ntp == "192.0.2.1"
    assert [(p.server, p.port) for p in network.entProxy.proxies] == [("proxy.example", 3128)]
    assert made.systemAdapterList[0].networkUUID == network.id


def test_a_port_without_an_address_passes_traffic_on() -> None:
    bare = NodePort(name="eth1", uplink=False, unaddressed=True)
    made = message(having(node=changed(NODE, ports=(NodePort(name="eth0"), bare))))
    network = next(n for n in made.networks if n.id == made.systemAdapterList[1].networkUUID)
    assert network.ip.dhcp == 2


# -- the node's own software --

SYSTEM = OSImage(
    metadata=meta("os-2"),
    spec=OSImageSpec(
        version="edgevirt-2-kvm-amd64",
        datastore_refs=(LocalRef(name="hub"),),
        reference="os/root.img",
        sha256="a" * 64,
        max_size="100Mi",
    ),
)


def with_os(**wanted: Any) -> Objects:
    node = changed(NODE, os=NodeOS(image="os-2", **wanted))
    return having(node=node, os_images={"os-2": SYSTEM})


def test_the_wanted_os_comes_with_what_it_is_made_from() -> None:
    made = message(with_os(retry_counter=3))
    tree = next(t for t in made.contentInfo if t.uuid == made.baseos.content_tree_uuid)
    assert (tree.URL, tree.sha256, tree.maxSizeBytes) == ("os/root.img", "a" * 64, 100 << 20)
    assert tree.iformat == config.RAW
    assert list(tree.ds_ids_list) == [made.datastores[0].id]
    assert made.baseos.base_os_version == "edgevirt-2-kvm-amd64"
    assert (made.baseos.activate, made.baseos.retry_update.counter) == (True, 3)
    assert not message().HasField("baseos")


def test_a_node_without_apps_gets_its_os_all_the_same() -> None:
    made = message(replace(with_os(activate=False), instances=()))
    assert len(made.datastores) == len(made.contentInfo) == 1
    assert made.baseos.activate is False


def test_the_counter_that_forces_a_fallback_is_a_property_on_the_way() -> None:
    made = message(with_os(fallback_counter=2))
    assert [(i.key, i.value) for i in made.configItems] == [("force.fallback.counter", "2")]


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        (replace(with_os(), os_images={}), "OSImage 'os-2' does not exist"),
        (replace(with_os(), datastores={}, instances=()), "Datastore 'hub' does not exist"),
    ],
)
def test_an_os_that_cannot_be_fetched_says_why(objects: Objects, why: str) -> None:
    assert render.render(objects).os_waiting == why


def test_a_barred_node_is_offered_its_os_and_nothing_else() -> None:
    offered = render.repair(with_os(retry_counter=3))
    whole = rendered(with_os(retry_counter=3))
    assert whole.apps
    assert offered == DeviceConfig(
        id=whole.id,
        datastores=whole.datastores,
        content_trees=tuple(t for t in whole.content_trees if t.url == "os/root.img"),
        base_os=whole.base_os,
    )


def test_a_barred_node_gets_no_secret_but_that_of_its_os_s_place(secret: Cipher) -> None:
    objects = replace(with_os(), credentials={"elsewhere": Credentials("u", "p")}, cipher=secret)
    offered = render.repair(objects)
    assert offered is not None
    assert offered.cipher_contexts == ()
    objects = replace(with_os(), credentials={"hub": Credentials("u", "p")}, cipher=secret)
    offered = render.repair(objects)
    assert offered is not None
    assert offered.cipher_contexts == (secret.context,)
    assert offered.datastores[0].cipher is not None


def test_a_barred_node_without_an_os_to_fetch_is_offered_nothing() -> None:
    assert render.repair(OBJECTS) is None
    assert render.repair(replace(with_os(), os_images={})) is None
    assert render.repair(replace(with_os(), datastores={}, instances=())) is None


def test_properties_and_names_are_told() -> None:
    node = changed(NODE, properties={"timer.config.interval": "30", "app.allow.vnc": "true"})
    made = message(having(node=node))
    assert [(item.key, item.value) for item in made.configItems] == [
        ("app.allow.vnc", "true"),
        ("timer.config.interval", "30"),
    ]
    assert (made.device_name, made.project_name) == ("till-1", "shop")
    assert made.controllercert_confighash == "certs"


def test_who_must_sign_is_the_image_s_word_or_its_datastores() -> None:
    def signers(*, image: tuple[str, ...], store: tuple[str, ...]) -> tuple[str, ...]:
        change = msgspec.structs.replace
        images = {
            name: change(one, spec=change(one.spec, signing_keys=image))
            for name, one in OBJECTS.images.items()
        }
        stores = {
            name: change(one, spec=change(one.spec, signing_keys=store))
            for name, one in OBJECTS.datastores.items()
        }
        objects = replace(OBJECTS, images=images, datastores=stores)
        return rendered(objects).content_trees[0].signers

    assert signers(image=(), store=()) == ()
    assert signers(image=(), store=("b", "a\n")) == ("a\n", "b\n")
    assert signers(image=("c",), store=("a",)) == ("c\n",)


# -- virtual machines --------------------------------------------------------------------------


def machine(**spec: Any) -> Objects:
    disk = changed(IMAGE, format="Qcow2", sha256="a" * 64)
    app = changed(APP, type="VM", **{"image": "disk", "volumes": (), "env": (), **spec})
    return having(apps={"web": app}, images={"disk": disk, "tools": disk, "hello": disk})


def test_a_virtual_machine_boots_from_its_disk_and_tells_cloud_init() -> None:
    found = rendered(machine(user_data="#cloud-config", firmware="UEFI")).apps[0]
    assert found.resources.mode is VirtualizationMode.PV
    assert found.resources.boot_mode is BootMode.UEFI
    assert base64.b64decode(found.user_data) == b"#cloud-config"
    assert len(found.volumes) == 1


def test_a_volume_of_a_virtual_machine_is_the_device_that_it_is_said_to_be() -> None:
    volumes = (
        AppVolume(name="a", image="tools", device="Floppy"),
        AppVolume(name="cd", image="tools", device="CDROM"),
        AppVolume(name="data", size="1Gi"),
    )
    config = rendered(machine(volumes=volumes))
    assert [ref.mount_dir for ref in config.apps[0].volumes] == ["", "/dev/fd0", "/dev/cdrom", ""]
    made = {volume.id: volume for volume in config.volumes}
    floppy, cdrom, data = (made[ref.volume] for ref in config.apps[0].volumes[1:])
    assert (floppy.origin, floppy.readonly) == (VolumeOrigin.DOWNLOAD, False)
    assert (cdrom.origin, cdrom.readonly) == (VolumeOrigin.DOWNLOAD, True)
    assert (data.origin, data.max_size) == (VolumeOrigin.BLANK, 1 << 30)


def test_a_unikernel_is_its_kernel_its_ramdisk_and_its_command_line() -> None:
    parts = {"image": "disk", "ramdisk": "tools", "volumes": (), "env": ()}
    app = changed(APP, type="Unikernel", command=("run", "a b"), **parts)
    objects = having(
        apps={"web": app}, images={"disk": changed(IMAGE, format="Raw"), "tools": IMAGE}
    )
    found = rendered(objects).apps[0]
    kernel, ramdisk = found.volumes
    assert (found.resources.kernel, found.resources.ramdisk) == (kernel.volume, ramdisk.volume)
    assert found.resources.kernel_arguments == "run a b"
    assert found.user_data == ""


def test_an_app_without_one_of_its_images_is_not_put_on_the_node() -> None:
    volumes = (AppVolume(name="a", image="lost", device="Floppy"),)
    waiting = render.render(machine(volumes=volumes)).waiting
    assert list(waiting.values()) == ["cannot put it on the node: Image 'lost' does not exist"]
