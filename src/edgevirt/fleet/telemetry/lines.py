"""Log lines out of bundles: the newest so many, those since a moment, and those that come."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from edgevirt.fleet.telemetry.archive import Telemetry
from edgevirt.fleet.telemetry.records import Record, Stream
from edgevirt.wire import logs
from edgevirt.wire.logs import LogEntry, LogsError

MAX_LINES: Final = 10_000
"""Read back at once."""

_MAX_PACKED: Final = 1 << 20
_MAX_UNPACKED: Final = 16 << 20
_NANO: Final = 1e-9


@dataclass(frozen=True)
class LogLine:
    """`at`: the node's time, seconds since 1970."""

    at: float
    entry: LogEntry


async def log_lines(
    telemetry: Telemetry,
    node: bytes,
    app: str = "",
    *,
    tail: int = MAX_LINES,
    since: float = 0.0,
    follow: bool = False,
) -> AsyncGenerator[LogLine, None]:
    """Of a node itself, or of one of its apps (UUID), oldest first; endless with `follow`."""
    last = telemetry.last_id(Stream.LOGS)
    for line in await _newest(telemetry, node, app, min(tail, MAX_LINES), since):
        yield line
    if follow:
        async for record in telemetry.follow(Stream.LOGS, after=last, node=node, item=app):
            for line in _lines_of(record):
                yield line


async def _newest(
    telemetry: Telemetry, node: bytes, app: str, tail: int, since: float
) -> list[LogLine]:
    """Bundles lie in the order of their newest lines, so the search goes back one by one."""
    found: list[LogLine] = []
    before: tuple[float, int] | None = None
    while len(found) < tail:
        page = await telemetry.backwards(
            Stream.LOGS, node, app, since=since, before=before, limit=16
        )
        if not page:
            break
        for record in page:
            found.extend(line for line in _lines_of(record) if line.at >= since)
            if len(found) >= tail:
                break
        before = page[-1].at, page[-1].id
    found.sort(key=lambda line: line.at)
    return found[-tail:] if tail > 0 else []


def _lines_of(record: Record) -> list[LogLine]:
    """A line without a time has its bundle's."""
    try:
        unpack = logs.unpack_app if record.item else logs.unpack_node
        bundle = unpack(record.payload, _MAX_PACKED, _MAX_UNPACKED)
        return [LogLine(_at(entry) or record.at, entry) for entry in logs.entries(bundle)]
    except LogsError:
        return []  # it was checked when it came; another version of this program was laxer


def _at(entry: LogEntry) -> float:
    return entry.timestamp.seconds + entry.timestamp.nanos * _NANO
