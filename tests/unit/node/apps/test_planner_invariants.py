"""Whatever happens to an app in whatever order, some things always hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, Domain, Resources, VirtualizationMode, VolumeRef
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.kinds import (
    APP_NETWORK,
    APP_NETWORK_STATUS,
    DOMAIN,
    DOMAIN_STATUS,
    VOLUME_STATUS,
    VOLUME_USE,
)
from edgevirt.model.network import NetworkInstanceState
from edgevirt.model.volume import volume_key

from .test_planner import APP, VOLUME, Node, app


class AppsLife(RuleBasedStateMachine):
    """One app; the other services answer truthfully, at any time, or restart."""

    @initialize()
    def begin(self) -> None:
        self.node = Node()
        self.wanted: AppInstance | None = None
        self.told: Domain | None = None
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
        else:
            wanted = replace(wanted, name=f"name {number}")
        self._want(replace(wanted, version=str(int(wanted.version) + 1)))

    # -- the other services --

    @rule()
    def all_act(self) -> None:
        """Each gets done what it can, as often as nobody disturbs."""
        self.volumes_act(SwState.CREATED_VOLUME)
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

    @rule()
    def volumes_of_old_are_removed(self) -> None:
        """What is neither in the config nor in use."""
        config = {ref.generation for ref in self.wanted.volumes} if self.wanted else set()
        used = self.node.inputs.get(VOLUME_USE, {})
        for key in list(self.node.inputs.get(VOLUME_STATUS, {})):
            if key not in used and int(key.rpartition("#")[2]) not in config:
                self.node.drop(VOLUME_STATUS, key)

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
        self.node.forget(DOMAIN_STATUS, APP_NETWORK_STATUS, VOLUME_STATUS, DOMAIN, APP_NETWORK)

    @rule()
    def node_restarts(self) -> None:
        self.service_restarts()
        self.node.boot += "+"
        self.told = None

    # -- what always holds --

    @invariant()
    def holds(self) -> None:
        node = self.node
        status = node.plan_any()  # and that planning again changes nothing
        domain = node.last.get(DOMAIN, APP)
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
            unchanged = replace(domain, activate=True) == replace(self.told, activate=True)
            if self.told.activate:
                assert unchanged or domain.generation > self.told.generation
        if domain.activate:
            used = {use.removeprefix(f"{VOLUME}#") for use in node.last.all(VOLUME_USE)}
            assert domain.volumes[0].path.rpartition("#")[2] in used
            network = node.last.get(APP_NETWORK, APP)
            assert network is not None
            assert network.activate
        self.told = domain


TestAppsLife = AppsLife.TestCase
TestAppsLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
