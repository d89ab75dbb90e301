"""Log bundles go to the controller, oldest first; a poisoned one doesn't block the others."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from edgevirt.model import kinds
from edgevirt.model.node import LogBundle, LogUpload
from edgevirt.node.agent.outcome import ACCEPTED, RETRIED, Failure, in_words
from edgevirt.node.agent.state import Line
from edgevirt.runtime import Gone, InStep, Put
from edgevirt.wire.limits import LOG_BUNDLE_MAX

_log = logging.getLogger(__name__)
SPACING = 3.0
"""Seconds between two uploads."""
UNREACHABLE = 60.0
MAX_REFUSALS = 10
"""So many 4xx answers, and a bundle is set aside."""


class Uploads:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._store = line.context.store
        self._waiting: dict[str, LogBundle] = {}
        self._refusals: dict[str, int] = {}
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._send())

    async def _follow(self) -> None:
        async for event in self._store.watch(kinds.LOG_BUNDLE):
            if isinstance(event, InStep):
                continue
            name = event.resource.key
            if isinstance(event, Put):
                self._waiting[name] = event.resource.value
                self._arrived.set()
            elif isinstance(event, Gone):
                self._waiting.pop(name, None)
                await self._store.delete(kinds.LOG_UPLOAD, name)

    async def _send(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._line.pause(await self._send_oldest())

    async def _send_oldest(self) -> float:
        """Seconds to wait before the next one."""
        name, bundle = min(self._waiting.items(), key=lambda item: item[1].created)
        try:
            content = _read(Path(bundle.path))
        except OSError as error:
            await self._settle(name, LogUpload(accepted=False, why=f"cannot read it: {error}"))
            return 0.0
        try:
            reply = await self._line.link.post(self._path(bundle), content)
        except Failure as failure:
            _log.info("logs wait: %s", failure)
            return UNREACHABLE
        if reply.status in ACCEPTED:
            await self._settle(name, LogUpload(accepted=True))
            return SPACING if self._waiting else 0.0
        return await self._refused(name, reply.status)

    async def _refused(self, name: str, status: int) -> float:
        _log.warning("a log bundle is not accepted: %s", in_words(status))
        if 400 <= status < 500 and status not in RETRIED:
            self._refusals[name] = self._refusals.get(name, 0) + 1
            if self._refusals[name] >= MAX_REFUSALS:
                await self._settle(name, LogUpload(accepted=False, why=in_words(status)))
            return SPACING
        return UNREACHABLE

    async def _settle(self, name: str, answer: LogUpload) -> None:
        self._waiting.pop(name, None)
        self._refusals.pop(name, None)
        await self._store.put(kinds.LOG_UPLOAD, name, answer)

    def _path(self, bundle: LogBundle) -> str:
        root = f"/id/{self._line.node}"
        return f"{root}/apps/instanceid/{bundle.app}/newlogs" if bundle.app else f"{root}/newlogs"


def _read(path: Path) -> bytes:
    """Raises OSError, also for one that no controller takes."""
    with path.open("rb") as file:
        content = file.read(LOG_BUNDLE_MAX + 1)
    if len(content) > LOG_BUNDLE_MAX:
        raise OSError(f"more than {LOG_BUNDLE_MAX} bytes")
    return content
