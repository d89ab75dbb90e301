"""The apps service: one planner, and no rights at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edgevirt.model.kinds import APP_NETWORK
from edgevirt.node.apps.planner import AppsPlanner
from edgevirt.node.service import Context, Service
from edgevirt.runtime import engine, release


def read_boot(proc: Path = Path("/proc")) -> str:
    """Names this run of the node: the machine's start, and that of the first process in it.

    In a PID namespace of its own, as nodes have it, no process outlives the first one.
    """
    machine = (proc / "sys/kernel/random/boot_id").read_text().strip()
    first = (proc / "1/stat").read_text().rpartition(") ")[2].split(" ")[19]
    return f"{machine}/{first}"


async def run(context: Context) -> None:
    # networks tells of an app's network only when it knows which are wanted, and the planner waits
    # for what networks tells. At the node's start no app has one yet; later the store remembers.
    await release(context.store, (APP_NETWORK,))
    boot = await asyncio.to_thread(read_boot)
    planner = AppsPlanner(boot, context.clock.monotonic())
    await engine.run(context.store, context.clock, [planner])


SERVICE = Service(name="apps", reads=AppsPlanner.reads, owns=AppsPlanner.owns, run=run)
