"""The domains service: its kinds, and what runs in its process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edgevirt.host.capacity import read_capacity
from edgevirt.host.container import ContainerHypervisor
from edgevirt.host.hypervisor import Hypervisor
from edgevirt.model.app import HostCapacity
from edgevirt.model.kinds import (
    APP_SECRET,
    DOMAIN,
    DOMAIN_EXIT,
    DOMAIN_METRIC,
    DOMAIN_STATUS,
    HOST_CAPACITY,
    PROPERTY,
)
from edgevirt.node.domains.exits import ExitWatch
from edgevirt.node.domains.metering import meter_forever
from edgevirt.node.domains.reconciler import DomainReconciler
from edgevirt.node.service import Context, Service
from edgevirt.runtime import engine
from edgevirt.runtime.store import release


def hypervisors(context: Context) -> tuple[Hypervisor, ...]:
    """One adapter per way of running things that this node has."""
    cgroup = context.settings.cgroup
    return (
        ContainerHypervisor(
            directory=context.paths.domains,
            consoles=context.paths.console_logs,
            apps=f"{cgroup}-user-apps",
            monitors=f"{cgroup}/containerd",
            clock=context.clock,
        ),
    )


async def run(context: Context) -> None:
    await serve(context, hypervisors(context))


async def serve(context: Context, adapters: Sequence[Hypervisor]) -> None:
    store, clock = context.store, context.clock
    machine = read_capacity()
    modes = sorted({mode for adapter in adapters for mode in adapter.modes})
    capacity = HostCapacity(memory_kib=machine.memory_kib, cpus=machine.cpus, modes=tuple(modes))
    await store.put(HOST_CAPACITY, "node", capacity)
    await release(store, (HOST_CAPACITY, DOMAIN_EXIT, DOMAIN_METRIC))
    exits = ExitWatch(store, clock)
    try:
        async with asyncio.TaskGroup() as group:
            consoles = context.paths.console_logs
            reconciler = DomainReconciler(adapters, exits, clock, consoles)
            group.create_task(engine.run(store, clock, [reconciler]))
            group.create_task(meter_forever(store, clock, adapters))
    finally:
        exits.close()


SERVICE = Service(
    name="domains",
    reads=(DOMAIN, APP_SECRET, PROPERTY),
    owns=(DOMAIN_STATUS, DOMAIN_METRIC, DOMAIN_EXIT, HOST_CAPACITY),
    run=run,
)
