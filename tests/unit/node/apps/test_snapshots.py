"""What is kept of an app before an update, and the way back: told, never half, never lost."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from edgevirt.model.app import AppInstance, AppInstanceStatus, Resources, VolumeRef
from edgevirt.model.base import Severity, SwState, Trouble
from edgevirt.model.domain import VirtualizationMode
from edgevirt.model.ids import VolumeId
from edgevirt.model.kinds import (
    APP_INSTANCE_APPLIED,
    DOMAIN_STATUS,
    HOST_CAPACITY,
    MACHINE_STATE,
    SNAPSHOT,
    SNAPSHOT_STATUS,
    VOLUME_USE,
)
from edgevirt.model.kinds import VOLUME as VOLUME_CONFIG
from edgevirt.model.network import NetworkInstanceState
from edgevirt.model.snapshot import (
    MachineState,
    Snapshot,
    SnapshotName,
    SnapshotStatus,
    SnapshotWish,
)
from edgevirt.model.volume import Volume, VolumeOrigin
from tests.worlds.apps import APP, GIB_KIB, OTHER, VOLUME, Node, app, capacity, why

DATA = VolumeId("b0000000-0000-4000-8000-000000000002")
ONE, TWO, THREE = (f"d0000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
OLD_ROOT, NEW_ROOT, KEPT = f"{VOLUME}#0", f"{VOLUME}#1", f"{DATA}#0"


def names(*ids: str) -> tuple[SnapshotName, ...]:
    return tuple(SnapshotName(id=id, type=1) for id in ids)


def first(**wish: Any) -> AppInstance:
    """An app with a root and data, of which a snapshot is to be kept."""
    wish = {"most": 1, "names": names(ONE), **wish}
    volumes = (VolumeRef(volume=VOLUME), VolumeRef(volume=DATA, mount_dir="/data"))
    return app(volumes=volumes, interfaces=(), snapshot=SnapshotWish(**wish))


def second(**wish: Any) -> AppInstance:
    """Its next version: another root."""
    old = first(**wish)
    volumes = (VolumeRef(volume=VOLUME, generation=1), old.volumes[1])
    return replace(old, version="2", purge_counter=1, volumes=volumes)


class World(Node):
    def start(self, wanted: AppInstance) -> AppInstanceStatus:
        for volume, generation in ((VOLUME, 0), (VOLUME, 1), (DATA, 0)):
            self.volume_is(SwState.CREATED_VOLUME, volume=volume, generation=generation)
        self.network_instance_is(NetworkInstanceState.ONLINE)
        self.want(wanted)
        self.plan()
        if wanted.interfaces:
            self.connect()
            self.plan()
        self.domain_is(SwState.RUNNING)
        return self.plan()

    def told(self, id: str = ONE) -> Snapshot:
        found = self.last.get(SNAPSHOT, id)
        assert found is not None
        return found

    def snapshots_are(self, state: SwState, id: str = ONE, **fields: Any) -> AppInstanceStatus:
        """volumes says so of what it was told."""
        told = self.told(id)
        status = SnapshotStatus(id=told.id, app=told.app, state=state, begun=told.begun)
        self.put(SNAPSHOT_STATUS, id, replace(status, **fields))
        return self.plan()

    def drop_domain(self) -> None:
        self.drop(DOMAIN_STATUS, APP)

    def ends(self) -> AppInstanceStatus:
        assert not self.domain().activate
        self.domain_is(SwState.HALTED)
        return self.plan()

    def runs(self) -> AppInstanceStatus:
        assert self.domain().activate
        self.domain_is(SwState.RUNNING)
        return self.plan()

    def update(self, wanted: AppInstance, id: str = ONE) -> AppInstanceStatus:
        self.want(wanted)
        self.plan()
        self.snapshots_are(SwState.CREATING_VOLUME, id)
        self.ends()
        self.now += 1
        self.snapshots_are(SwState.CREATED_VOLUME, id, size=77)
        return self.runs()

    def roots(self) -> list[str]:
        return [volume.path.rpartition("/")[2] for volume in self.domain().volumes]


def test_the_app_is_stopped_for_its_snapshot_only_when_there_is_room() -> None:
    world = World()
    world.start(first())
    world.want(second())
    status = world.plan()
    assert status.what == "running; purging: looking for room for a snapshot"
    assert status.version == "1"
    told = world.told()
    assert (told.copies, told.moves, told.take) == ((KEPT,), (OLD_ROOT,), False)
    assert world.domain().activate
    full = Trouble(why="cannot keep a snapshot: full", since=world.now)
    status = world.snapshots_are(SwState.INITIAL, trouble=full)
    assert why(status) == "cannot update: cannot keep a snapshot: full"
    assert status.state == SwState.RUNNING
    assert world.domain().activate
    world.snapshots_are(SwState.CREATING_VOLUME)
    assert not world.domain().activate, "with room it goes on by itself"
    assert not world.told().take, "not while its domain may still write"
    world.ends()
    assert world.told().take


def test_the_new_version_starts_when_the_old_one_is_kept() -> None:
    world = World()
    world.start(first())
    world.want(second())
    world.plan()
    world.snapshots_are(SwState.CREATING_VOLUME)
    status = world.ends()
    assert (status.state, status.what) == (SwState.HALTED, "taking a snapshot of it")
    assert not world.domain().activate
    assert set(world.last.all(VOLUME_USE)) == {OLD_ROOT, KEPT}
    (report,) = status.snapshots
    assert report.trouble is not None
    assert (report.id, report.version, report.trouble.why) == (ONE, "1", "being taken")
    status = world.snapshots_are(SwState.CREATED_VOLUME, size=77)
    assert world.roots() == [NEW_ROOT, KEPT]
    assert set(world.last.all(VOLUME_USE)) == {NEW_ROOT, KEPT}
    assert status.version == "2"
    (report,) = status.snapshots
    assert (report.taken_at, report.size, report.trouble) == (world.now, 77, None)


def test_its_network_stays_meanwhile() -> None:
    world = World()
    wired = app().interfaces
    world.start(replace(first(), interfaces=wired))
    world.want(replace(second(), interfaces=wired))
    world.plan()
    world.snapshots_are(SwState.CREATING_VOLUME)
    world.ends()
    network = world.network()
    assert network is not None
    assert network.activate, "a network that is made anew is one that the app would miss"


def test_a_snapshot_that_fails_leaves_the_old_version_running_until_it_is_asked_again() -> None:
    world = World()
    world.start(first())
    world.want(second())
    world.plan()
    world.snapshots_are(SwState.CREATING_VOLUME)
    world.ends()
    broken = Trouble(why="cannot take snapshot: the disk failed", since=world.now)
    world.snapshots_are(SwState.FAILED, trouble=broken)
    assert world.roots() == [OLD_ROOT, KEPT]
    status = world.runs()
    assert why(status) == "cannot update: cannot take snapshot: the disk failed"
    assert status.version == "1"
    assert world.last.all(SNAPSHOT) == {}
    world.drop(SNAPSHOT_STATUS, ONE)
    world.want(replace(second(), restart_counter=1))
    assert world.plan().what.endswith("looking for room for a snapshot")
    assert world.told().id == ONE


def test_an_app_that_wants_none_is_updated_without() -> None:
    world = World()
    world.start(first(most=0))
    world.want(second(most=0))
    world.plan()
    assert not world.domain().activate
    assert world.last.all(SNAPSHOT) == {}


def test_a_plain_restart_is_no_update() -> None:
    world = World()
    world.start(first())
    world.want(replace(first(), restart_counter=1))
    world.plan()
    assert world.domain().generation == 2
    assert world.last.all(SNAPSHOT) == {}


def test_a_restart_with_another_config_keeps_what_was() -> None:
    world = World()
    world.start(first())
    more = replace(first(), restart_counter=1, resources=replace(first().resources, vcpus=1))
    world.want(more)
    world.plan()
    assert (world.told().copies, world.told().moves) == ((OLD_ROOT, KEPT), ())
    world.snapshots_are(SwState.CREATING_VOLUME)
    assert not world.domain().activate, "not replaced in place: its disks must be at rest"


def test_a_volume_that_others_use_is_left_out() -> None:
    world = World()
    shared = (VolumeRef(volume=DATA),)
    world.start(first())
    other = app(id=OTHER, volumes=shared, interfaces=())
    world.want(second(), other)
    world.plan()
    assert (world.told().copies, world.told().moves) == ((), (OLD_ROOT,))


def test_a_node_that_restarts_while_it_takes_one_goes_on() -> None:
    world = World()
    world.start(first())
    world.want(second())
    world.plan()
    world.snapshots_are(SwState.CREATING_VOLUME)
    world.ends()
    world.boot = "boot 2"
    world.inputs[SNAPSHOT_STATUS] = {}
    status = world.plan()
    assert (status.state, status.what) == (SwState.HALTED, "taking a snapshot of it")
    assert world.told().take
    world.snapshots_are(SwState.CREATED_VOLUME)
    world.runs()
    assert world.roots() == [NEW_ROOT, KEPT]


def test_a_change_that_came_while_the_node_was_off_is_an_update_too() -> None:
    world = World()
    world.start(first())
    world.boot = "boot 2"
    world.want(second())
    status = world.plan()
    assert status.what == "looking for room for a snapshot"
    world.snapshots_are(SwState.CREATING_VOLUME)
    assert world.told().take
    world.snapshots_are(SwState.CREATED_VOLUME)
    assert world.roots() == [NEW_ROOT, KEPT]


def test_without_room_after_a_restart_of_the_node_the_old_version_starts() -> None:
    world = World()
    world.start(first())
    world.boot = "boot 2"
    world.want(second())
    world.plan()
    world.snapshots_are(SwState.INITIAL, trouble=Trouble(why="full", since=0.0))
    assert world.roots() == [OLD_ROOT, KEPT]
    assert why(world.runs()) == "cannot update: full"


def test_an_update_that_is_taken_back_in_time_changes_nothing() -> None:
    world = World()
    world.start(first())
    world.want(second())
    world.plan()
    world.want(first())
    status = world.plan()
    assert world.last.all(SNAPSHOT) == {}
    assert (status.what, status.snapshots) == ("running", ())


def test_only_the_newest_are_kept_and_the_rest_is_told_until_it_is_gone() -> None:
    world = World()
    world.start(first())
    world.update(second())
    third = replace(second(names=names(ONE, TWO)), version="3", purge_counter=2)
    status = world.update(third, TWO)
    assert [one.id for one in status.snapshots] == [TWO, ONE]
    assert status.snapshots[1].trouble is not None
    assert status.snapshots[1].trouble.why == "being deleted"
    stuck = Trouble(why="cannot delete snapshot: I/O error", since=0.0)
    old = world.inputs[SNAPSHOT_STATUS][ONE]
    world.put(SNAPSHOT_STATUS, ONE, replace(old, trouble=stuck))
    assert world.plan().snapshots[1].trouble == stuck
    world.drop(SNAPSHOT_STATUS, ONE)
    assert [one.id for one in world.plan().snapshots] == [TWO]


def test_one_that_the_controller_no_longer_names_goes_after_a_while() -> None:
    world = World()
    world.start(first(most=3))
    world.update(second(most=3))
    world.want(second(most=3, names=names(TWO)))
    (told,) = world.plan().snapshots
    assert told.trouble is not None
    assert "names it no more" in told.trouble.why
    assert told.version == "1", "so a controller that has forgotten it learns of it anew"
    world.now += 3599
    world.plan()
    assert list(world.last.all(SNAPSHOT)) == [ONE]
    world.now += 1
    world.plan()
    assert world.last.all(SNAPSHOT) == {}


def test_one_that_it_names_again_stays() -> None:
    """As after a return of the controller's own backup, once it was told."""
    world = World()
    world.start(first(most=3))
    world.update(second(most=3))
    world.want(second(most=3, names=names(TWO)))
    world.plan()
    world.now += 3000
    world.want(second(most=3, names=names(ONE, TWO)))
    assert world.plan().snapshots[0].trouble is None
    world.now += 3000
    world.plan()
    assert list(world.last.all(SNAPSHOT)) == [ONE]
    world.want(second(most=3, names=names(TWO)))
    world.plan()
    world.now += 3000
    world.plan()
    assert list(world.last.all(SNAPSHOT)) == [ONE], "it is a while once more"


def test_one_too_many_goes_at_once_whoever_names_it() -> None:
    world = World()
    world.start(first(most=3))
    world.update(second(most=3))
    world.want(second(most=0, names=()))
    world.plan()
    assert world.last.all(SNAPSHOT) == {}


def test_a_controller_that_names_none_gets_one_all_the_same() -> None:
    world = World()
    world.start(first(names=()))
    world.want(second(names=()))
    world.plan()
    (id,) = world.last.all(SNAPSHOT)
    world.update(second(names=()), id)
    assert list(world.last.all(SNAPSHOT)) == [id], "never named, so its absence means nothing"


# -- back ---------------------------------------------------------------------------------------


def updated() -> World:
    world = World()
    world.start(first())
    world.update(second())
    return world


def back(counter: int = 1, **wish: Any) -> AppInstance:
    return second(active=ONE, rollback_counter=counter, **wish)


def roll_back(world: World, wanted: AppInstance | None = None) -> AppInstanceStatus:
    wanted = wanted or back()
    counter = wanted.snapshot.rollback_counter
    world.want(wanted)
    world.plan()
    world.snapshots_are(SwState.CREATED_VOLUME, prepared=counter)
    world.ends()
    world.volume_is(SwState.CREATED_VOLUME, generation=0)
    world.snapshots_are(SwState.CREATED_VOLUME, restored=counter)
    return world.runs()


def test_the_app_runs_on_until_what_it_goes_back_to_is_ready() -> None:
    world = updated()
    world.want(back())
    status = world.plan()
    assert status.what == f"running; rolling back: rolling back to snapshot {ONE}"
    assert world.domain().activate
    assert (world.told().restore, world.told().commit) == (1, False)
    assert OLD_ROOT in world.last.all(VOLUME_USE)
    (report,) = status.snapshots
    assert report.trouble is not None
    assert report.trouble.severity == Severity.NOTICE
    status = world.snapshots_are(SwState.CREATED_VOLUME, trouble=Trouble(why="full", since=0.0))
    assert why(status) == "full"
    assert world.domain().activate
    world.snapshots_are(SwState.CREATED_VOLUME, prepared=1)
    assert not world.domain().activate
    assert not world.told().commit, "not while its domain may still write"


def test_the_old_version_runs_on_its_old_volumes_and_says_so() -> None:
    world = updated()
    status = roll_back(world)
    assert world.roots() == [OLD_ROOT, KEPT]
    assert (status.version, status.trouble) == ("1", None)
    assert [one.id for one in status.snapshots] == [ONE]
    assert (world.told().restore, world.told().commit) == (0, False)


def test_a_node_that_restarts_amid_a_rollback_goes_on_with_it() -> None:
    world = updated()
    world.want(back())
    world.plan()
    world.snapshots_are(SwState.CREATED_VOLUME, prepared=1)
    world.ends()
    assert world.told().commit
    world.boot = "boot 2"
    world.inputs[SNAPSHOT_STATUS] = {}
    status = world.plan()
    assert status.what == f"rolling back to snapshot {ONE}"
    assert world.told().commit
    world.snapshots_are(SwState.CREATED_VOLUME, restored=1)
    assert world.roots() == [OLD_ROOT, KEPT]


def test_what_was_rolled_back_stays_so_over_restarts_of_everything() -> None:
    world = updated()
    roll_back(world)
    world.boot = "boot 2"
    world.plan()
    assert world.roots() == [OLD_ROOT, KEPT]
    generation = world.domain().generation
    world.want(replace(back(), restart_counter=1))
    world.plan()
    assert world.roots() == [OLD_ROOT, KEPT], "a restart restarts what is in force"
    assert world.domain().generation == generation + 1
    world.want(replace(back(), restart_counter=1, activate=False))
    world.plan()
    assert not world.domain().activate


def test_an_app_that_changes_after_a_rollback_goes_forward_again() -> None:
    world = updated()
    roll_back(world)
    newer = VolumeRef(volume=VOLUME, generation=2)
    third = back(names=names(ONE, TWO), most=2)
    third = replace(third, version="3", purge_counter=2, volumes=(newer, third.volumes[1]))
    world.volume_is(SwState.CREATED_VOLUME, generation=2)
    status = world.update(third, TWO)
    assert world.roots() == [f"{VOLUME}#2", KEPT]
    assert status.version == "3"
    assert [one.version for one in status.snapshots] == ["1", "1"]


def test_a_rollback_that_is_taken_back_is_an_update_to_what_the_controller_wants() -> None:
    world = updated()
    roll_back(world)
    taken_back = second(rollback_counter=2, names=names(ONE, TWO), most=2)
    status = world.update(taken_back, TWO)
    assert world.roots() == [NEW_ROOT, KEPT]
    assert status.version == "2"


def test_an_old_order_or_a_lower_counter_rolls_nothing_back() -> None:
    world = World()
    status = world.start(second(active=ONE, rollback_counter=5))
    assert (status.what, status.trouble) == ("running", None)
    world = updated()
    roll_back(world, back(counter=3))
    world.want(back(counter=2))
    world.plan()
    assert world.told().restore == 0


def test_an_order_to_go_back_to_what_is_not_there_is_refused_in_words() -> None:
    world = updated()
    world.want(second(active=TWO, rollback_counter=1, names=names(ONE, TWO)))
    status = world.plan()
    assert why(status) == f"cannot roll back: there is no snapshot {TWO}"
    assert world.domain().activate
    assert world.roots() == [NEW_ROOT, KEPT]


def test_a_rollback_waits_for_a_snapshot_that_is_being_taken() -> None:
    """Its volumes may have moved already: to drop it would lose them."""
    world = World()
    world.start(first(most=2))
    world.update(second(most=2))
    third = replace(second(names=names(ONE, TWO), most=2), version="3", purge_counter=2)
    world.want(third)
    world.plan()
    world.snapshots_are(SwState.CREATING_VOLUME, TWO)
    wish = replace(third.snapshot, active=ONE, rollback_counter=1)
    world.want(replace(third, snapshot=wish))
    world.ends()
    assert world.told(TWO).take
    world.snapshots_are(SwState.CREATED_VOLUME, TWO)
    assert world.told(ONE).restore == 1
    assert world.told(TWO).taken


def test_a_snapshot_goes_with_its_app_and_not_before() -> None:
    world = updated()
    world.want()
    world.plan_any()
    assert world.told().taken
    world.drop_domain()
    world.plan_any()
    assert world.last.all(SNAPSHOT) == {}
    assert world.last.all(APP_INSTANCE_APPLIED) == {}


def test_memory_that_the_old_version_no_longer_finds_is_told_before_it_is_stopped() -> None:
    world = World()
    big = replace(first(), resources=replace(first().resources, memory_kib=3 << 20))
    world.start(big)
    world.update(second())
    hog = Resources(memory_kib=2 << 20, mode=first().resources.mode)
    world.want(second(), app(id=OTHER, resources=hog, volumes=(), interfaces=()))
    world.plan()
    other = world.last.get(SNAPSHOT, ONE)
    assert other is not None
    world.want(back(), app(id=OTHER, resources=hog, volumes=(), interfaces=()))
    world.plan()
    status = world.snapshots_are(SwState.CREATED_VOLUME, prepared=1)
    assert "cannot start: it needs" in why(status)
    assert world.domain(APP).activate


# -- what a machine has besides its disks ---------------------------------------------------------


def machine(wanted: AppInstance) -> AppInstance:
    resources = Resources(memory_kib=65_536, mode=VirtualizationMode.PV)
    return replace(wanted, resources=resources)


class Machines(World):
    def start(self, wanted: AppInstance) -> AppInstanceStatus:
        modes = (VirtualizationMode.PV,)
        self.put(HOST_CAPACITY, "node", replace(capacity(4 * GIB_KIB), modes=modes))
        return super().start(machine(wanted))

    def state_is(self, id: str = ONE, **fields: Any) -> AppInstanceStatus:
        """domains says so of what it was told."""
        told = self.told(id)
        status = MachineState(id=told.id, app=told.app, begun=told.begun)
        self.put(MACHINE_STATE, id, replace(status, **fields))
        return self.plan()

    def update(self, wanted: AppInstance, id: str = ONE) -> AppInstanceStatus:
        self.want(machine(wanted))
        self.plan()
        self.snapshots_are(SwState.CREATING_VOLUME, id)
        self.ends()
        self.state_is(id, kept=True)
        self.snapshots_are(SwState.CREATED_VOLUME, id)
        return self.runs()


def test_a_machine_s_state_is_kept_before_any_of_its_volumes_moves() -> None:
    world = Machines()
    world.start(first())
    world.want(machine(second()))
    world.plan()
    world.snapshots_are(SwState.CREATING_VOLUME)
    assert not world.told().take_state, "its machine may still write"
    world.ends()
    told = world.told()
    assert (told.machine, told.take_state, told.take) == (True, True, False)
    world.state_is(kept=True)
    assert world.told().take
    world.snapshots_are(SwState.CREATED_VOLUME)
    assert world.runs().version == "2"


def test_a_state_that_cannot_be_kept_leaves_the_old_version_running() -> None:
    world = Machines()
    world.start(first())
    world.want(machine(second()))
    world.plan()
    world.snapshots_are(SwState.CREATING_VOLUME)
    world.ends()
    failed = Trouble(why="cannot keep the state of machine: the disk is full", since=world.now)
    status = world.state_is(trouble=failed)
    assert "cannot update: cannot keep the state" in why(status)
    assert world.domain().activate
    assert world.roots() == [OLD_ROOT, KEPT]
    assert world.runs().version == "1"


def test_a_machine_starts_again_when_its_state_is_back_too() -> None:
    world = Machines()
    world.start(first())
    world.update(second())
    world.want(machine(back()))
    world.plan()
    world.snapshots_are(SwState.CREATED_VOLUME, prepared=1)
    world.ends()
    assert world.told().commit
    world.volume_is(SwState.CREATED_VOLUME, generation=0)
    status = world.snapshots_are(SwState.CREATED_VOLUME, restored=1)
    assert not world.domain().activate
    stuck = Trouble(why="cannot bring the state back", since=world.now)
    assert why(world.state_is(kept=True, trouble=stuck)) == stuck.why
    world.state_is(kept=True, restored=1)
    status = world.runs()
    assert status.version == "1"


def test_what_another_app_has_by_now_does_not_go_back_under_its_feet() -> None:
    """A volume that outlives apps may have gone to the next one."""
    world = World()
    world.start(first())
    world.put(VOLUME_CONFIG, KEPT, Volume(id=DATA, origin=VolumeOrigin.BLANK))
    without = replace(second(), volumes=second().volumes[:1])
    world.update(without)
    other_root = VolumeId("b0000000-0000-4000-8000-000000000009")
    refs = (VolumeRef(volume=other_root), VolumeRef(volume=DATA, mount_dir="/data"))
    other = app(id=OTHER, name="heir", interfaces=(), volumes=refs)
    world.volume_is(SwState.CREATED_VOLUME, volume=other_root)
    world.want(without, other)
    world.plan()
    assert world.domain(OTHER).activate
    going = replace(without, snapshot=back().snapshot)
    world.want(going, other)
    world.plan()
    status = world.snapshots_are(SwState.CREATED_VOLUME, prepared=1)
    assert 'is used by app "heir"' in why(status)
    assert world.domain().activate, "it runs on, as it is"
    assert not world.told().commit
    world.want(going, replace(other, activate=False))
    world.plan()
    world.domain_is(SwState.HALTED, OTHER)
    world.plan()
    world.ends()
    assert world.told().commit
    world.want(going, other)
    world.plan()
    assert not world.domain(OTHER).activate, "nor does the heir take it meanwhile"
