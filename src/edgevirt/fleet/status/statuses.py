"""The road home: reports of nodes are read, and given to who makes statuses of them.

They come from telemetry, behind a mark, so that a slow status never delays a node, and a restart
goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.status.app_reports import AppReports
from edgevirt.fleet.status.node_reports import NodeReports
from edgevirt.fleet.telemetry import Record, Stream, Telemetry
from edgevirt.runtime import Clock
from edgevirt.runtime.amend import insist
from edgevirt.wire.messages import info

_MARK: Final = "status"
_PACE: Final = 0.05
"""Seconds in which reports gather: many at once cost less, and what was overtaken costs nothing."""
_AT_ONCE: Final = 32
"""Nodes whose reports are taken in side by side."""


class _Told(NamedTuple):
    """`at`: the node's time."""

    message: info.ZInfoMsg
    at: float


class Statuses:
    """One per process."""

    def __init__(
        self,
        telemetry: Telemetry,
        registry: Registry,
        dependencies: Dependencies,
        nodes: NodeReports,
        apps: AppReports,
        clock: Clock,
    ) -> None:
        self._telemetry = telemetry
        self._registry = registry
        self._dependencies = dependencies
        self._nodes = nodes
        self._apps = apps
        self._clock = clock

    async def follow(self) -> None:
        """Never returns."""
        await self._registry.whole.wait()
        mark = await self._telemetry.read_mark(_MARK)
        async for news in self._telemetry.news(Stream.INFO, after=mark):
            if news.records:
                await insist(self._clock, "statuses", partial(self._take_all, news.records))
            self._telemetry.set_mark(_MARK, news.upto)
            await self._clock.sleep(_PACE)

    async def _take_all(self, records: Iterable[Record]) -> None:
        by_node: dict[str, list[_Told]] = {}
        for record in records:
            row = self._registry.find_machine(record.node)
            if row < 0:
                continue  # it was deleted after it had reported
            name = self._registry.name(row)
            try:
                message = info.ZInfoMsg.FromString(record.payload)
            except DecodeError:
                continue  # was readable when it came: another version of this program took it
            if self._matters(name, message):
                by_node.setdefault(name, []).append(_Told(message, record.at))
        room = asyncio.Semaphore(_AT_ONCE)
        if by_node:
            await asyncio.gather(*(self._take_of(n, told, room) for n, told in by_node.items()))

    def _matters(self, edge_node: str, message: info.ZInfoMsg) -> bool:
        content = message.WhichOneof("InfoContent")
        if content == "vinfo" and self._dependencies.volumes_of(edge_node):
            return True
        if content in ("ainfo", "vinfo", "cinfo", "niinfo"):
            return bool(self._dependencies.instances_of(edge_node))
        return bool(content == "dinfo")

    async def _take_of(
        self, edge_node: str, told: Iterable[_Told], room: asyncio.Semaphore
    ) -> None:
        async with room:
            for message, at in told:
                await self._take(edge_node, message, at)

    async def _take(self, edge_node: str, message: info.ZInfoMsg, at: float) -> None:
        content = message.WhichOneof("InfoContent")
        if content == "dinfo":
            await self._nodes.take(edge_node, message.dinfo, at)
        elif content == "ainfo":
            await self._apps.take_app(edge_node, message.ainfo)
        elif content == "vinfo":
            await self._apps.take_volume(edge_node, message.vinfo)
        elif content == "cinfo":
            await self._apps.take_image(edge_node, message.cinfo)
        elif content == "niinfo":
            await self._apps.take_network(edge_node, message.niinfo)
