"""Whatever happens to an app in whatever order, some things always hold."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, Resources, VolumeRef
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.domain import Domain, VirtualizationMode
from edgevirt.model.kinds import (
    APP_NETWORK,
    APP_NETWORK_STATUS,
    DOMAIN,
    DOMAIN_STATUS,
    SNAPSHOT,
    SNAPSHOT_STATUS,
    VOLUME_STATUS,
    VOLUME_USE,
)
from edgevirt.model.network import NetworkInstanceState
from edgevirt.model.snapshot import Snapshot, SnapshotStatus
from edgevirt.model.volume import Growth, volume_key
from edgevirt.runtime import Kind
from tests.worlds.apps import APP, VOLUME, Node, app

_TOLD: tuple[Kind[Any], ...] = (
    DOMAIN_STATUS,
    APP_NETWORK_STATUS,
    VOLUME_STATUS,
    DOMAIN,
    APP_NETWORK,
    SNAPSHOT,
    SNAPSHOT_STATUS,
)


class AppsLife(RuleBasedStateMachine):
    """One app; the other services answer truthfully, at any time, or restart."""

    @initialize()
    def begin(self) -> None:
        self.node = Node()
        self.wanted: AppInstance | None = None
        self.told: Domain | None = None
        self.time = 0.0
        self.network_instance()
        self.create(activate=True)
        self.all_act()

    def _want(self, wanted: AppInstance | None) -> None:
        self.wanted = wanted
        self.node.want(*([] if wanted is None else [wanted]))

    # -- the controller --

    @rule(activate=st.booleans())
    def create(self, activate: bool) -> None:
        if self.wanted is None:
            self._want(app(activate=activate))

    @rule()
    def delete(self) -> None:
        self._want(None)

    @precondition(lambda self: self.wanted is not None)
    @rule(
        change=st.sampled_from(
            [
                "activate",
                "restart",
                "purge",
                "purge-volumes",
                "volumes",
                "memory",
                "address",
                "name",
                "snapshots",
                "rollback",
            ]
        ),
        number=st.integers(1, 3),
    )
    def change(self, change: str, number: int) -> None:
        wanted = self.wanted
        assert wanted is not None
        newer = (VolumeRef(volume=VOLUME, generation=wanted.volumes[0].generation + 1),)
        if change == "activate":
            wanted = replace(wanted, activate=not wanted.activate)
        elif change == "restart":
            wanted = replace(wanted, restart_counter=wanted.restart_counter + 1)
        elif change == "purge":
            wanted = replace(wanted, purge_counter=wanted.purge_counter + 1)
        elif change == "purge-volumes":
            wanted = replace(wanted, purge_counter=wanted.purge_counter + 1, volumes=newer)
        elif change == "volumes":
            wanted = replace(wanted, volumes=newer)
        elif change == "memory":
            mode = VirtualizationMode.NOHYPER
            wanted = replace(wanted, resources=Resources(memory_kib=number << 20, mode=mode))
        elif change == "address":
            moved = replace(wanted.interfaces[0], ip=f"10.1.0.{number}")
            wanted = replace(wanted, interfaces=(moved,))
        elif change == "snapshots":
            wish = replace(wanted.snapshot, most=number - 1)
            wanted = replace(wanted, snapshot=wish)
        elif change == "rollback":
            taken = [key for key, told in self._snapshots().items() if told.taken]
            active = taken[number % len(taken)] if taken else ""
            counter = wanted.snapshot.rollback_counter + 1
            wish = replace(wanted.snapshot, active=active, rollback_counter=counter)
            wanted = replace(wanted, snapshot=wish)
        else:
            wanted = replace(wanted, name=f"name {number}")
        self._want(replace(wanted, version=str(int(wanted.version) + 1)))

    # -- the other services --

    @rule()
    def all_act(self) -> None:
        """Each gets done what it can, as often as nobody disturbs."""
        self.volumes_act(SwState.CREATED_VOLUME)
        self.node.plan_any()
        self.snapshots_act(full=False)
        self.node.plan_any()
        self.networks_acts()
        self.node.plan_any()
        self.domains_acts(SwState.RUNNING)

    @rule(state=st.sampled_from([SwState.DOWNLOADING, SwState.CREATED_VOLUME]))
    def volumes_act(self, state: SwState) -> None:
        """On what is in the config; what was created stays so."""
        for ref in self.wanted.volumes if self.wanted is not None else ():
            known = self.node.inputs.get(VOLUME_STATUS, {}).get(volume_key(VOLUME, ref.generation))
            if known is None or known.state != SwState.CREATED_VOLUME:
                self.node.volume_is(state, generation=ref.generation)

    @rule(size=st.integers(1, 3))
    def volumes_are_to_grow(self, size: int) -> None:
        self.time += 1.0
        growth = Growth(size=size << 30, begun=self.time)
        statuses = self.node.inputs.get(VOLUME_STATUS, {})
        for key, status in statuses.items():
            if status.state == SwState.CREATED_VOLUME:
                statuses[key] = replace(status, growing=growth)

    @rule()
    def volumes_have_grown(self) -> None:
        statuses = self.node.inputs.get(VOLUME_STATUS, {})
        for key, status in statuses.items():
            statuses[key] = replace(status, growing=None)

    @rule()
    def volumes_of_old_are_removed(self) -> None:
        """What is neither in the config nor in use."""
        config = {ref.generation for ref in self.wanted.volumes} if self.wanted else set()
        used = self.node.inputs.get(VOLUME_USE, {})
        for key in list(self.node.inputs.get(VOLUME_STATUS, {})):
            if key not in used and int(key.rpartition("#")[2]) not in config:
                self.node.drop(VOLUME_STATUS, key)

    def _snapshots(self) -> dict[str, Snapshot]:
        return self.node.inputs.get(SNAPSHOT, {})

    @rule(full=st.sampled_from([False, False, True]))
    def snapshots_act(self, full: bool) -> None:
        """What can be done of each; what moved is no volume any more, until it is brought back."""
        told = self.node.inputs.setdefault(SNAPSHOT_STATUS, {})
        for key in set(told) - set(self._snapshots()):
            del told[key]
        for key, wanted in self._snapshots().items():
            known = told.get(key)
            if known is None or known.begun != wanted.begun:
                kept = SwState.CREATED_VOLUME if wanted.taken else SwState.INITIAL
                known = SnapshotStatus(id=wanted.id, app=wanted.app, state=kept, begun=wanted.begun)
            if known.state != SwState.CREATED_VOLUME and full:
                state = SwState.FAILED if wanted.take else SwState.INITIAL
                known = replace(known, state=state, trouble=Trouble(why="full", since=0.0))
            elif known.state != SwState.CREATED_VOLUME and wanted.take:
                known = replace(known, state=SwState.CREATED_VOLUME, trouble=None)
                for volume in wanted.moves:
                    self.node.drop(VOLUME_STATUS, volume)
            elif known.state != SwState.CREATED_VOLUME:
                known = replace(known, state=SwState.CREATING_VOLUME, trouble=None)
            elif wanted.commit:
                known = replace(known, restored=wanted.restore)
                for volume in (*wanted.copies, *wanted.moves):
                    generation = int(volume.rpartition("#")[2])
                    self.node.volume_is(SwState.CREATED_VOLUME, generation=generation)
            else:
                known = replace(known, prepared=wanted.restore)
            told[key] = known

    @rule()
    def network_instance(self) -> None:
        self.node.network_instance_is(NetworkInstanceState.ONLINE)

    @rule()
    def networks_acts(self) -> None:
        network = self.node.inputs.get(APP_NETWORK, {}).get(APP)
        if network is None or not network.activate:
            self.node.drop(APP_NETWORK_STATUS, APP)
        else:
            self.node.connect()

    @rule(state=st.sampled_from([SwState.BOOTING, SwState.RUNNING, SwState.HALTED]))
    def domains_acts(self, state: SwState) -> None:
        told = self.node.inputs.get(DOMAIN, {}).get(APP)
        if told is None:
            self.node.drop(DOMAIN_STATUS, APP)
        elif not told.activate:
            self.node.domain_is(SwState.HALTED)
        elif state == SwState.HALTED:
            self.node.domain_is(state, trouble=Trouble(why="crashed", since=0.0))
        else:
            self.node.domain_is(state)

    @rule()
    def service_restarts(self) -> None:
        """Of apps and all the others: what isn't persistent is told anew, later."""
        self.node.forget(*_TOLD)

    @rule()
    def node_restarts(self) -> None:
        self.service_restarts()
        self.node.boot += "+"
        self.told = None

    # -- what always holds --

    def disks_are_at_rest(self) -> None:
        """While volumes are copied, moved or replaced no domain is told to run, and none does."""
        told = self.node.inputs.get(SNAPSHOT_STATUS, {})
        domain = self.node.last.get(DOMAIN, APP)
        known = self.node.inputs.get(DOMAIN_STATUS, {}).get(APP)
        for key, wanted in self.node.last.all(SNAPSHOT).items():
            status = told.get(key)
            whole = status is not None and status.state == SwState.CREATED_VOLUME
            if wanted.commit or (wanted.take and not whole):
                assert domain is None or not domain.activate
                halted = known is not None and known.state == SwState.HALTED
                assert domain is None or halted

    def what_is_yielded_is_nobody_s(self) -> None:
        """No domain is told to run with it, and none does."""
        domain = self.node.last.get(DOMAIN, APP)
        known = self.node.inputs.get(DOMAIN_STATUS, {}).get(APP)
        statuses = self.node.inputs.get(VOLUME_STATUS, {})
        paths = {volume.path for volume in domain.volumes} if domain is not None else set()
        for key, use in self.node.last.all(VOLUME_USE).items():
            if use.yields is None or f"/volumes/{key}" not in paths:
                continue
            assert use.yields == statuses[key].growing
            assert domain is None or not domain.activate
            assert known is None or known.state == SwState.HALTED

    @invariant()
    def holds(self) -> None:
        node = self.node
        status = node.plan_any()  # and that planning again changes nothing
        domain = node.last.get(DOMAIN, APP)
        self.disks_are_at_rest()
        self.what_is_yielded_is_nobody_s()
        if self.wanted is None:
            assert domain is None
            self.told = None
            return
        assert status is not None
        assert status.app_num == 1
        if domain is None:
            return
        assert not (domain.activate and not self.wanted.activate)
        if self.told is not None:
            assert domain.generation >= self.told.generation
            unchanged = _without_sizes(domain) == _without_sizes(self.told)
            if self.told.activate:
                assert unchanged or domain.generation > self.told.generation
        if domain.activate:
            used = {use.removeprefix(f"{VOLUME}#") for use in node.last.all(VOLUME_USE)}
            assert domain.volumes[0].path.rpartition("#")[2] in used
            network = node.last.get(APP_NETWORK, APP)
            assert network is not None
            assert network.activate
        self.told = domain


def _without_sizes(domain: Domain) -> Domain:
    """That is told while it runs."""
    volumes = tuple(replace(volume, size=0) for volume in domain.volumes)
    return replace(domain, activate=True, volumes=volumes)


TestAppsLife = AppsLife.TestCase
TestAppsLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
