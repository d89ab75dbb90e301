"""Runs controllers on a store. The one loop that all services share.

Watches what they read, calls them, writes what differs, retries what failed, removes what is no
longer wanted. Nothing is decided before everything that is read has been in step once: an input
that is not loaded yet must not look like one that is gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from typing import Any, TypeAlias

from edgevirt.runtime.access import guard
from edgevirt.runtime.backoff import Backoff, Jitter
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.controller import Planner, Reconciler
from edgevirt.runtime.graph import graph
from edgevirt.runtime.planning import Plan, PlannerLoop, plan_once
from edgevirt.runtime.reconciling import ReconcilerLoop
from edgevirt.runtime.store import Store

__all__ = ["Controller", "Plan", "graph", "guard", "plan_once", "run"]

Controller: TypeAlias = Planner | Reconciler[Any, Any]

_LOG = logging.getLogger("edgevirt.engine")


async def run(
    store: Store,
    clock: Clock,
    controllers: Iterable[Controller],
    *,
    log: logging.Logger = _LOG,
    jitter: Jitter = random.random,
    concurrency: int = 32,
    cap: float = 60.0,
) -> None:
    """Never returns by itself; cancelling it stops every controller where it awaits.

    `concurrency`: so many keys of one reconciler run at once. `cap`: the longest backoff, seconds.
    Raises what the store raises to a watcher (Denied, Undeclared: a wrong declaration), and
    ValueError when two controllers own the same kind.
    """
    controllers = tuple(controllers)
    _check_owners(controllers)
    backoff = Backoff(jitter, cap=cap)
    async with asyncio.TaskGroup() as group:
        for controller in controllers:
            loop: PlannerLoop | ReconcilerLoop
            if isinstance(controller, Planner):
                loop = PlannerLoop(controller, store, clock, log, backoff)
            else:
                loop = ReconcilerLoop(controller, store, clock, log, backoff, concurrency)
            group.create_task(loop.run(), name=controller.name)


def _check_owners(controllers: Iterable[Controller]) -> None:
    owners: dict[str, str] = {}
    for controller in controllers:
        owned = controller.owns if isinstance(controller, Planner) else (controller.status,)
        for kind in owned:
            if kind.name in owners:
                other = owners[kind.name]
                raise ValueError(f"{kind.name} is owned by {other} and by {controller.name}")
            owners[kind.name] = controller.name
