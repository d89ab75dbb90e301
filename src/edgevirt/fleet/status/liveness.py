"""Which nodes are silent, and when each was last heard of.

Hearing of a node costs one write to memory. A look over all of them every few seconds keeps the
times (in telemetry, many at once), tells who fell silent or is heard of again, and refreshes what
objects show: with few nodes once a minute, with many less often, so that it never is much work.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.objects import NodeObjects
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import find_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.status import of_app, of_node, of_volume
from edgevirt.fleet.status.of_node import OFFLINE
from edgevirt.fleet.telemetry import Telemetry, Unavailable
from edgevirt.runtime import Clock, Event, Gone, InStep, Store, StoreError

_log: Final = logging.getLogger(__name__)

CHECK_SECONDS: Final = 15.0
SILENT_SECONDS: Final = 180.0
"""At least; nodes that are told to ask less often than each minute get three of their intervals."""
DEFAULT_INTERVAL: Final = 60.0
SHOWN_PER_CHECK: Final = 300
"""Objects whose `lastSeen` is written at most per check."""
SHOWN_EVERY: Final = 60.0
_YIELD: Final = 2_000
"""Nodes that are looked at before others get their turn."""

_INTERVAL: Final = "timer.config.interval"


class Liveness:
    """One per process."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        telemetry: Telemetry,
        objects: NodeObjects,
        events: Recorder,
        clock: Clock,
    ) -> None:
        self._store = store
        self._registry = registry
        self._telemetry = telemetry
        self._objects = objects
        self._events = events
        self._clock = clock
        self._kept = 0.0
        self._started = clock.now()
        self._silent: dict[str, float] = {}
        self._next_shown = 0

    async def load(self) -> None:
        """What an earlier process knew. Nodes count as heard of from now on, since nobody listened
        meanwhile.
        """
        await self._registry.whole.wait()
        self._registry.load_seen(await self._telemetry.load_seen())
        self._kept = self._started = self._clock.now()

    def take(self, event: Event[EdgeNode]) -> None:
        """What objects say, for nodes that were silent before this process began."""
        if isinstance(event, InStep):
            return
        node = event.resource.value
        if isinstance(event, Gone):
            self._silent.pop(node.key, None)
        elif node.status.phase == OFFLINE:
            self._silent.setdefault(node.key, 0.0)

    async def watch(self) -> None:
        """Never returns."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            await self.check()

    async def check(self) -> None:
        now = self._clock.now()
        await self._keep(now)
        rows = list(self._registry.rows())
        for number, row in enumerate(rows):
            if number % _YIELD == 0:
                await asyncio.sleep(0)
            name, seen = self._registry.name(row), self._registry.seen(row)
            if name and (seen < now - SILENT_SECONDS or name in self._silent):
                await self._tolerate(self._judge(name, seen, now))
        for row in self._due(rows):
            await self._tolerate(self._show(self._registry.name(row), self._registry.seen(row)))

    def _due(self, rows: list[int]) -> list[int]:
        """So many that each node's turn comes once in SHOWN_EVERY, unless that were too many."""
        if not rows:
            return []
        count = min(SHOWN_PER_CHECK, math.ceil(len(rows) * CHECK_SECONDS / SHOWN_EVERY))
        first = self._next_shown % len(rows)
        self._next_shown = first + count
        return (rows[first:] + rows[:first])[:count]

    async def _tolerate(self, work: Coroutine[Any, Any, None]) -> None:
        """The store does not take it now; the next check is soon."""
        try:
            await work
        except StoreError as error:
            _log.warning("liveness: %s", error)

    async def keep(self) -> None:
        """Once more, before the process ends."""
        await self._keep(self._clock.now())

    async def _keep(self, now: float) -> None:
        seen = [(self._registry.node(r), at) for r, at in self._registry.seen_since(self._kept)]
        self._kept = now
        if not seen:
            return
        try:
            await asyncio.shield(self._telemetry.note_seen(seen))
        except Unavailable as error:
            _log.warning("cannot keep when nodes were heard of: %s", error)

    async def _judge(self, name: str, seen: float, now: float) -> None:
        """Nobody could be heard of before this process listened."""
        heard = max(seen, self._started)
        if name in self._silent:
            if seen > self._silent[name] and seen >= now - SILENT_SECONDS:
                del self._silent[name]
                await self._tell_heard(name, seen)
        elif heard < now - SILENT_SECONDS:
            node = await self._store.get(kinds.EDGE_NODE, name)
            if node is not None and heard < now - _patience(node.value) and seen:
                self._silent[name] = seen
                await self._tell_silent(name, seen)

    async def _tell_silent(self, edge_node: str, seen: float) -> None:
        """The node was last heard of at `seen`, too long ago."""
        now = self._clock.now()
        changed = await self._objects.amend_node(edge_node, lambda s: of_node.silent(s, seen, now))
        if changed is None:
            return
        ready = find_condition(changed.value.status.conditions, "Ready")
        why = ready.message if ready is not None else ""
        await self._events.tell("EdgeNode", changed.value, "Silent", why, warning=True)
        for place in await self._objects.places(edge_node):
            await self._objects.amend_app(place.key, lambda s: of_app.unreachable(s, why, now))
        for volume in await self._objects.volumes(edge_node):
            await self._objects.amend_volume(volume, lambda s: of_volume.unreachable(s, why, now))

    async def _tell_heard(self, edge_node: str, seen: float) -> None:
        """The node was heard of after a silence."""
        now = self._clock.now()
        changed = await self._objects.amend_node(edge_node, lambda s: of_node.heard(s, seen, now))
        if changed is None:
            return
        await self._events.tell("EdgeNode", changed.value, "Online", "the node is heard of again")
        for place in await self._objects.places(edge_node):
            await self._objects.amend_app(place.key, lambda s: of_app.reachable(s, now))
        for volume in await self._objects.volumes(edge_node):
            await self._objects.amend_volume(volume, lambda s: of_volume.reachable(s, now))

    async def _show(self, name: str, seen: float) -> None:
        if name and seen and name not in self._silent:
            await self._objects.amend_node(
                name, lambda status: msgspec.structs.replace(status, last_seen=timestamp(seen))
            )


def _patience(node: EdgeNode) -> float:
    try:
        interval = float(node.spec.properties.get(_INTERVAL, DEFAULT_INTERVAL))
    except ValueError:
        interval = DEFAULT_INTERVAL
    return max(SILENT_SECONDS, 3 * interval)
