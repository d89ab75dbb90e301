"""The real domains reconciler on a store of this process, for benches that start apps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from edgevirt.host.hypervisor import Hypervisor
from edgevirt.node.domains.exits import ExitWatch
from edgevirt.node.domains.reconciler import DomainReconciler
from edgevirt.runtime import RealClock, engine
from edgevirt.runtime.memory import MemoryStore


@contextlib.asynccontextmanager
async def domains_service(
    hypervisor: Hypervisor, kept: Sequence[tuple[Path, str]] = ()
) -> AsyncIterator[MemoryStore]:
    """`kept`: as DomainReconciler takes it. No domain is left behind."""
    store, clock = MemoryStore(), RealClock()
    exits = ExitWatch(store, clock)
    reconciler = DomainReconciler([hypervisor], exits, clock, kept)
    task = asyncio.create_task(engine.run(store, clock, [reconciler]))
    try:
        yield store
    finally:
        exits.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for info in await hypervisor.list():
            await hypervisor.delete(info.app)
