"""The planner of apps, and what the other services would make of what it plans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from edgevirt.model.app import AppInstance, AppInstanceStatus, Resources, VolumeRef
from edgevirt.model.base import SwState
from edgevirt.model.baseos import BaseOsStatus, UpdateStep
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import Domain, DomainStatus, HostCapacity, VirtualizationMode
from edgevirt.model.ids import AppId, NetworkInstanceId, VolumeId
from edgevirt.model.kinds import (
    APP_INSTANCE,
    APP_INSTANCE_STATUS,
    APP_NETWORK,
    APP_NETWORK_STATUS,
    BASE_OS_STATUS,
    DOMAIN,
    DOMAIN_STATUS,
    HOST_CAPACITY,
    NETWORK_INSTANCE_STATUS,
    VOLUME_STATUS,
)
from edgevirt.model.network import (
    AppInterface,
    AppNetwork,
    AppNetworkStatus,
    NetworkInstanceState,
    NetworkInstanceStatus,
    Vif,
)
from edgevirt.model.volume import VolumeStatus, volume_key
from edgevirt.node.apps.planner import AppsPlanner
from edgevirt.runtime import Kind
from edgevirt.runtime.engine import Plan, plan_once

APP = AppId("a0000000-0000-4000-8000-000000000001")
OTHER = AppId("a0000000-0000-4000-8000-000000000002")
VOLUME = VolumeId("b0000000-0000-4000-8000-000000000001")
NETWORK = NetworkInstanceId("c0000000-0000-4000-8000-000000000001")
GIB_KIB = 1 << 20


def app(**fields: Any) -> AppInstance:
    base = AppInstance(
        id=APP,
        name="web",
        version="1",
        resources=Resources(memory_kib=65_536, vcpus=2, mode=VirtualizationMode.NOHYPER),
        volumes=(VolumeRef(volume=VOLUME, generation=0),),
        interfaces=(AppInterface(name="inside", network=NETWORK),),
    )
    return replace(base, **fields)


@dataclass
class Node:
    """The planner's inputs, and what the other services would make of its outputs."""

    now: float = 1000.0
    boot: str = "boot 1"
    inputs: dict[Kind[Any], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.put(HOST_CAPACITY, "node", capacity(4 * GIB_KIB))
        self.put(BASE_OS_STATUS, "node", BaseOsStatus(step=UpdateStep.IDLE, since=0.0))
        self.last = Plan({}, None)
        self.started = self.now

    def put(self, kind: Kind[Any], key: str, value: Any) -> None:
        self.inputs.setdefault(kind, {})[key] = value

    def drop(self, kind: Kind[Any], key: str) -> None:
        self.inputs.get(kind, {}).pop(key, None)

    def forget(self, *kinds: Kind[Any]) -> None:
        """Their owner restarted and has not spoken yet."""
        for kind in kinds:
            self.inputs[kind] = {}

    def want(self, *apps: AppInstance) -> None:
        self.inputs[APP_INSTANCE] = {wanted.id: wanted for wanted in apps}

    def plan(self) -> AppInstanceStatus:
        """Plans, feeds the outputs back; the status of APP."""
        status = self.plan_any()
        assert status is not None
        return status

    def plan_any(self, key: AppId = APP) -> AppInstanceStatus | None:
        planner = AppsPlanner(self.boot, self.started)
        self.last = plan_once(planner, self.inputs, now=self.now, monotonic=self.now)
        for kind in planner.owns:
            self.inputs[kind] = dict(self.last.all(kind))
        again = plan_once(planner, self.inputs, now=self.now, monotonic=self.now)
        assert again.outputs == self.last.outputs, "planning again changes its mind"
        return self.last.get(APP_INSTANCE_STATUS, key)

    def domain(self, key: AppId = APP) -> Domain:
        found = self.last.get(DOMAIN, key)
        assert found is not None
        return found

    def network(self) -> AppNetwork | None:
        return self.last.get(APP_NETWORK, APP)

    # -- what the others do --

    def volume_is(
        self, state: SwState, *, volume: VolumeId = VOLUME, generation: int = 0, **fields: Any
    ) -> None:
        status = VolumeStatus(
            id=volume,
            generation=generation,
            state=state,
            since=self.now,
            name="root",
            format=ContentFormat.CONTAINER,
            path=f"/volumes/{volume}#{generation}",
            layers=("/layers/1", "/layers/2"),
            packed="/packed/root",
            image=ImageConfig(cmd=("serve",)),
        )
        self.put(VOLUME_STATUS, volume_key(volume, generation), replace(status, **fields))

    def network_instance_is(self, state: NetworkInstanceState, **fields: Any) -> None:
        status = NetworkInstanceStatus(id=NETWORK, state=state, since=self.now, name="local")
        self.put(NETWORK_INSTANCE_STATUS, NETWORK, replace(status, **fields))

    def connect(self) -> None:
        """networks makes what the present AppNetwork asks for."""
        wanted = self.network()
        assert wanted is not None
        vifs = tuple(
            Vif(
                name=f"eth{index}",
                host_name=f"nbu{index}x1",
                bridge="bn1",
                network=interface.network,
                mac=interface.mac or "00:16:3e:00:00:01",
                ip=interface.ip or "10.1.0.5",
                prefix=24,
                gateway="10.1.0.1",
            )
            for index, interface in enumerate(wanted.interfaces)
        )
        status = AppNetworkStatus(
            app=APP, ready=True, since=self.now, netns="/run/netns/a", vifs=vifs, dns=("10.1.0.1",)
        )
        self.put(APP_NETWORK_STATUS, APP, status)

    def domain_is(self, state: SwState, key: AppId = APP, **fields: Any) -> None:
        """domains says so of the generation that it was told last."""
        told = self.domain(key)
        status = DomainStatus(
            app=key, name=told.name, state=state, since=self.now, generation=told.generation
        )
        if state == SwState.RUNNING:
            status = replace(status, pid=7, boot_time=self.now)
        self.put(DOMAIN_STATUS, key, replace(status, **fields))

    def run(self, wanted: AppInstance | None = None) -> AppInstanceStatus:
        """All the way to running."""
        self.want(wanted or app())
        self.volume_is(SwState.CREATED_VOLUME)
        self.network_instance_is(NetworkInstanceState.ONLINE)
        self.plan()
        if (wanted or app()).interfaces:
            self.connect()
        self.plan()
        self.domain_is(SwState.RUNNING)
        return self.plan()


def capacity(memory_kib: int) -> HostCapacity:
    return HostCapacity(memory_kib=memory_kib, cpus=2, modes=(VirtualizationMode.NOHYPER,))


def why(status: AppInstanceStatus) -> str:
    return "" if status.trouble is None else status.trouble.why
