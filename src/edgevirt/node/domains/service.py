"""The domains service: its kinds, and what runs in its process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from edgevirt.host.container.hypervisor import ContainerHypervisor
from edgevirt.host.devices.machine import MachineDevicesAdapter
from edgevirt.host.devices.protocol import Devices
from edgevirt.host.domain.processors import Partition
from edgevirt.host.hypervisor import Hypervisor
from edgevirt.host.kvm.acceleration import can_emulate
from edgevirt.host.kvm.guest import GuestFiles
from edgevirt.host.kvm.hypervisor import KvmHypervisor
from edgevirt.host.kvm.machine_state import MachineStates
from edgevirt.host.xen.hypervisor import XenHypervisor, can_start_domains
from edgevirt.model.kinds import (
    ADAPTER_GROUP,
    AGENT_STATUS,
    APP_SECRET,
    CARD_STATUS,
    DEVICE_NETWORK_STATUS,
    DOMAIN,
    DOMAIN_EXIT,
    DOMAIN_METRIC,
    DOMAIN_STATUS,
    HOST_CAPACITY,
    MACHINE_DEVICES,
    MACHINE_STATE,
    PHYSICAL_IO,
    PROPERTY,
    SNAPSHOT,
)
from edgevirt.node.domains.adapters import AdapterPlanner
from edgevirt.node.domains.capacity import CapacityTeller, measure_capacity
from edgevirt.node.domains.cards import CardReconciler
from edgevirt.node.domains.consoles import serve_consoles
from edgevirt.node.domains.exits import ExitWatch
from edgevirt.node.domains.machine import tell_devices
from edgevirt.node.domains.metering import meter_forever
from edgevirt.node.domains.reconciler import DomainReconciler
from edgevirt.node.domains.states import StateReconciler
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Clock, engine
from edgevirt.runtime.engine import Controller
from edgevirt.runtime.store import release


def hypervisors(context: Context, devices: Devices) -> tuple[Hypervisor, ...]:
    """One adapter per way of running things that this node has."""
    paths, cgroup = context.paths, context.settings.cgroup
    around = Around(
        apps=f"{cgroup}-user-apps",
        monitors=f"{cgroup}/containerd",
        partition=_partition(context),
        devices=devices,
        clock=context.clock,
    )
    containers = ContainerHypervisor(paths.domains, paths.console_logs, **around)
    if can_start_domains():
        return (containers, XenHypervisor(paths.machines, paths.console_logs, **around))
    if not can_emulate():
        return (containers,)
    machines = KvmHypervisor(
        paths.machines,
        paths.console_logs,
        paths.firmware,
        paths.tpms,
        GuestFiles.below(paths.guest),
        **around,
    )
    return (containers, machines)


class Around(TypedDict):
    """What all adapters of a node take alike."""

    apps: str
    monitors: str
    partition: Partition
    devices: Devices
    clock: Clock


def _partition(context: Context) -> Partition:
    return Partition(f"{context.settings.cgroup}-real-time")


async def run(context: Context) -> None:
    devices = MachineDevicesAdapter()
    with contextlib.closing(devices):
        await serve(context, hypervisors(context, devices), devices)


async def serve(context: Context, adapters: Sequence[Hypervisor], devices: Devices) -> None:
    store, clock = context.store, context.clock
    modes = sorted({mode for adapter in adapters for mode in adapter.modes})
    guest = GuestFiles.below(context.paths.guest)
    teller = CapacityTeller(
        store, clock, await measure_capacity(tuple(modes), _partition(context), guest)
    )
    await teller.tell()
    probing = any(adapter.modes != ContainerHypervisor.modes for adapter in adapters)
    await release(store, (HOST_CAPACITY, DOMAIN_EXIT, DOMAIN_METRIC, MACHINE_DEVICES))
    exits = ExitWatch(store, clock)
    try:
        async with asyncio.TaskGroup() as group:
            reconciler = DomainReconciler(adapters, exits, clock, _kept(context.paths))
            if probing:
                group.create_task(teller.tell_acceleration())
                group.create_task(teller.tell_guest(guest))
            group.create_task(tell_devices(store, clock, devices))
            paths = context.paths
            states = StateReconciler(
                MachineStates(paths.machine_states, paths.firmware, paths.tpms)
            )
            controllers: list[Controller] = [AdapterPlanner(), CardReconciler(devices)]
            controllers += [reconciler, states]
            group.create_task(engine.run(store, clock, controllers))
            group.create_task(meter_forever(store, clock, adapters))
            group.create_task(serve_consoles(store, adapters, context.paths.consoles_door))
    finally:
        exits.close()


def _kept(paths: Paths) -> tuple[tuple[Path, str], ...]:
    return ((paths.console_logs, ".log"), (paths.firmware, ".fd"), (paths.tpms, ""))


SERVICE = Service(
    name="domains",
    reads=(
        *(DOMAIN, APP_SECRET, PROPERTY, PHYSICAL_IO, DEVICE_NETWORK_STATUS),
        *(SNAPSHOT, AGENT_STATUS),
    ),
    owns=(
        *(DOMAIN_STATUS, DOMAIN_METRIC, DOMAIN_EXIT, HOST_CAPACITY),
        *(MACHINE_DEVICES, ADAPTER_GROUP, CARD_STATUS, MACHINE_STATE),
    ),
    run=run,
)
