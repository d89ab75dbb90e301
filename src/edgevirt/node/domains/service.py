"""The domains service: its kinds, and what runs in its process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from msgspec.structs import replace

from edgevirt.host.acceleration import TCG, XEN, acceleration, can_emulate
from edgevirt.host.capacity import Capacity, read_capacity
from edgevirt.host.container import ContainerHypervisor
from edgevirt.host.devices.machine import MachineDevicesAdapter
from edgevirt.host.devices.protocol import Devices
from edgevirt.host.guest import GuestFiles
from edgevirt.host.hypervisor import Hypervisor, HypervisorError
from edgevirt.host.kvm import KvmHypervisor
from edgevirt.host.machine_state import MachineStates
from edgevirt.host.processors import Partition, read_cores
from edgevirt.host.xen.first_domain import starts_with_hardware
from edgevirt.host.xen.hypervisor import (
    XenHypervisor,
    can_start_domains,
    read_machine_capacity,
)
from edgevirt.model.app import HostCapacity
from edgevirt.model.kinds import (
    ADAPTER_GROUP,
    AGENT_STATUS,
    APP_SECRET,
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
from edgevirt.node.domains.consoles import serve_consoles
from edgevirt.node.domains.exits import ExitWatch
from edgevirt.node.domains.machine import tell_devices
from edgevirt.node.domains.metering import meter_forever
from edgevirt.node.domains.reconciler import DomainReconciler
from edgevirt.node.domains.states import StateReconciler
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service
from edgevirt.runtime import Clock, Store, engine
from edgevirt.runtime.engine import Controller
from edgevirt.runtime.store import release

_LOG = logging.getLogger("edgevirt.domains")


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
    machine = await _measure()
    modes = sorted({mode for adapter in adapters for mode in adapter.modes})
    no_cores = _no_cores(context)
    capacity = HostCapacity(
        memory_kib=machine.memory_kib,
        cpus=machine.cpus,
        modes=tuple(modes),
        cores=() if no_cores else read_cores()[1:],  # the first is the node's
        no_cores=no_cores,
        no_tpm="Xen's domains have none on this node" if can_start_domains() else "",
    )
    await store.put(HOST_CAPACITY, "node", capacity)
    probing = any(adapter.modes != ContainerHypervisor.modes for adapter in adapters)
    await release(store, (HOST_CAPACITY, DOMAIN_EXIT, DOMAIN_METRIC, MACHINE_DEVICES))
    exits = ExitWatch(store, clock)
    try:
        async with asyncio.TaskGroup() as group:
            reconciler = DomainReconciler(adapters, exits, clock, _kept(context.paths))
            if probing:
                group.create_task(_tell_acceleration(store, capacity))
            group.create_task(tell_devices(store, clock, devices))
            paths = context.paths
            states = StateReconciler(
                MachineStates(paths.machine_states, paths.firmware, paths.tpms)
            )
            controllers: list[Controller] = [AdapterPlanner(), reconciler, states]
            group.create_task(engine.run(store, clock, controllers))
            group.create_task(meter_forever(store, clock, adapters))
            group.create_task(serve_consoles(store, adapters, context.paths.consoles_door))
    finally:
        exits.close()


def _kept(paths: Paths) -> tuple[tuple[Path, str], ...]:
    return ((paths.console_logs, ".log"), (paths.firmware, ".fd"), (paths.tpms, ""))


def _no_cores(context: Context) -> str:
    """Why no app can have processors of its own."""
    if can_start_domains():
        return "its processors are Xen's"
    return _partition(context).refusal()


async def _measure() -> Capacity:
    if can_start_domains():
        try:
            return await read_machine_capacity()
        except HypervisorError as failure:
            _LOG.error("%s; only the first domain's memory is reckoned with", failure)
    return read_capacity()


def _acceleration() -> str:
    if can_start_domains():
        return XEN if starts_with_hardware() else ""
    return acceleration()


async def _tell_acceleration(store: Store, capacity: HostCapacity) -> None:
    """Whether guests run by the processor itself takes seconds to find out."""
    found = await asyncio.to_thread(_acceleration)
    if found == TCG:
        _LOG.warning("this machine's processor starts no guests: virtual machines are emulated")
    await store.put(HOST_CAPACITY, "node", replace(capacity, acceleration=found))


SERVICE = Service(
    name="domains",
    reads=(
        *(DOMAIN, APP_SECRET, PROPERTY, PHYSICAL_IO, DEVICE_NETWORK_STATUS),
        *(SNAPSHOT, AGENT_STATUS),
    ),
    owns=(
        *(DOMAIN_STATUS, DOMAIN_METRIC, DOMAIN_EXIT, HOST_CAPACITY),
        *(MACHINE_DEVICES, ADAPTER_GROUP, MACHINE_STATE),
    ),
    run=run,
)
