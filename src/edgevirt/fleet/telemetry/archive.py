"""Telemetry's face: `append` what a node reported, read it back, follow it.

Writing goes through one thread (`writer`), reading through another with its own connection, so
that the event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import apsw

from edgevirt.fleet.telemetry.records import (
    DEFAULT_QUOTAS,
    Quota,
    Record,
    Stream,
    Unavailable,
    open_database,
    open_reader,
)
from edgevirt.fleet.telemetry.writer import Batch, Writer
from edgevirt.runtime import Clock

T = TypeVar("T")

PAGE: Final = 64
"""Records read at once; log bundles take up to 64 KiB each."""
MAX_SKEW: Final = 300.0
"""Seconds by which a node's clock may run ahead of ours; what is more counts as now."""
PACE: Final = 0.008
"""Seconds between the beginnings of two commits: a busy fleet writes fewer and larger ones."""
MAX_PENDING: Final = 64 << 20
"""Bytes that may wait for a commit; beyond it nodes are told to come again."""

_NEWS: Final = 512
"""Ids that are looked at together."""
_COLUMNS: Final = "id, node, item, at, received, payload"
_NEWEST: Final = {
    stream: f"SELECT {_COLUMNS} FROM {stream.table} AS r WHERE id > ? AND id <= ?2 AND NOT EXISTS"  # noqa: S608
    f" (SELECT 1 FROM {stream.table} AS n INDEXED BY {stream.table}_once"
    " WHERE n.node = r.node AND n.item = r.item AND n.at >= r.at"
    " AND (n.at > r.at OR n.id > r.id) AND n.id <= ?2) ORDER BY id"
    for stream in Stream
}


class News(NamedTuple):
    """`upto`: the id up to which all were looked at."""

    records: list[Record]
    upto: int


class Telemetry:
    """Use it from one event loop. `append` may be called without awaiting its future."""

    def __init__(
        self, path: Path, clock: Clock, quotas: Mapping[Stream, Quota] = DEFAULT_QUOTAS
    ) -> None:
        """Raises Unavailable when the database cannot be used."""
        self._clock = clock
        try:
            self._writer = Writer(open_database(str(path)), quotas, clock, self._on_commit)
            self._connection = open_reader(str(path))
        except apsw.Error as error:
            raise Unavailable(f"cannot open {path}: {error}") from error
        path.chmod(0o600)
        self._reader = ThreadPoolExecutor(1, "telemetry-read")
        self._filling: Batch | None = None
        self._pending_bytes = 0
        self._committing = False
        self._scheduled = False
        self._submitted = 0.0
        self._waiters: dict[Stream, dict[bytes | None, asyncio.Future[None]]] = {}

    def start(self) -> None:
        """To be called in the loop that will use it."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()

    async def close(self) -> None:
        """Commits what was appended, then closes."""
        while self._filling is not None or self._committing:
            batch = self._open_batch()
            self._flush()
            await asyncio.wait([batch.done])
        await asyncio.to_thread(self._writer.stop)
        self._reader.shutdown()
        self._connection.close()

    # -- writing --

    def append(
        self, stream: Stream, node: bytes, item: str, at: float, payload: bytes
    ) -> asyncio.Future[None]:
        """Resolves when the record is on disk; raises Unavailable when it could not be stored.

        The future is shared with others of the same commit: don't cancel it.
        """
        if self._pending_bytes > MAX_PENDING:
            raise Unavailable("cannot store telemetry: too much waits for the disk")
        now = self._clock.now()
        batch = self._open_batch()
        row = (node, item, min(at, now + MAX_SKEW), now, zlib.crc32(payload), payload)
        rows = batch.rows.get(stream)
        if rows is None:
            batch.rows[stream], batch.sizes[stream] = [row], len(payload)
        else:
            rows.append(row)
            batch.sizes[stream] += len(payload)
        self._pending_bytes += len(payload)
        return batch.done

    def set_mark(self, name: str, value: int) -> asyncio.Future[None]:
        """A number that survives: how far a reader came."""
        batch = self._open_batch()
        batch.marks[name] = value
        return batch.done

    def note_seen(self, seen: Sequence[tuple[bytes, float]]) -> asyncio.Future[None]:
        """When nodes were last heard of: (node, wall clock)."""
        batch = self._open_batch()
        batch.seen.extend(seen)
        return batch.done

    def _open_batch(self) -> Batch:
        if self._filling is None:
            self._filling = Batch(self._loop.create_future())
            if not self._committing:
                self._schedule()
        return self._filling

    def _schedule(self) -> None:
        """At the end of this turn of the loop, unless the last commit was only just."""
        if not self._scheduled:
            self._scheduled = True
            wait = self._submitted + PACE - self._loop.time()
            if wait > 0:
                self._loop.call_later(wait, self._flush)
            else:
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hands over what was gathered, unless a commit is under way."""
        self._scheduled = False
        if self._filling is not None and not self._committing:
            batch, self._filling = self._filling, None
            self._pending_bytes = 0
            self._committing = True
            self._submitted = self._loop.time()
            self._writer.submit(batch)

    def _on_commit(self, batch: Batch, failure: Exception | None) -> None:
        self._committing = False
        if self._filling is not None:
            self._schedule()
        if failure is None:
            batch.done.set_result(None)
            self._wake_followers(batch)
        else:
            batch.done.set_exception(failure)
            batch.done.exception()  # seen: whoever appended without waiting does not care

    # -- reading --

    async def read_mark(self, name: str) -> int:
        """0 when it was never set."""
        rows = await self._query("SELECT value FROM mark WHERE name = ?", (name,), _first_int)
        return rows[0] if rows else 0

    async def load_seen(self) -> list[tuple[bytes, float]]:
        return await self._query("SELECT node, at FROM seen", (), _pair)

    async def latest(self, stream: Stream, node: bytes, item: str = "") -> Record | None:
        """The newest by the node's time."""
        found = await self.backwards(stream, node, item, limit=1)
        return found[0] if found else None

    async def backwards(
        self,
        stream: Stream,
        node: bytes,
        item: str = "",
        *,
        since: float = 0.0,
        before: tuple[float, int] | None = None,
        limit: int = PAGE,
    ) -> list[Record]:
        """Records of one thing from the newest on, by the node's time.

        `since`: at that time or later. `before`: (at, id) of the last record that the caller has.
        """
        at, number = before if before is not None else (float("inf"), 0)
        return await self._query(
            f"SELECT {_COLUMNS} FROM {stream.table} INDEXED BY {stream.table}_once"  # noqa: S608
            " WHERE node = ? AND item = ? AND at >= ? AND (at < ? OR (at = ? AND id < ?))"
            " ORDER BY at DESC, id DESC LIMIT ?",
            (node, item, since, at, at, number, limit),
            Record._make,
        )

    async def after(
        self, stream: Stream, number: int, *, upto: int | None = None, limit: int = PAGE
    ) -> list[Record]:
        """Records of all nodes with an id above `number`, oldest first."""
        return await self._query(
            f"SELECT {_COLUMNS} FROM {stream.table} WHERE id > ? AND id <= ?"  # noqa: S608
            " ORDER BY id LIMIT ?",
            (number, self.last_id(stream) if upto is None else upto, limit),
            Record._make,
        )

    async def news(self, stream: Stream, *, after: int) -> AsyncGenerator[News, None]:
        """Endless: what is new with an id above `after`, less what something newer of the same
        thing has overtaken, by the node's time.
        """
        while True:
            woken = self._waiter(stream, None)
            last = self.last_id(stream)
            while after < last:
                upto = min(last, after + _NEWS)
                records = await self._query(_NEWEST[stream], (after, upto), Record._make)
                yield News(records, upto)
                after = upto
            await asyncio.shield(woken)

    def last_id(self, stream: Stream) -> int:
        """Of the newest committed record; 0 when there never was one."""
        return self._writer.last_ids[stream]

    def size(self, stream: Stream) -> int:
        """Bytes, as quotas count them."""
        return self._writer.sizes[stream]

    async def follow(
        self, stream: Stream, *, after: int, node: bytes | None = None, item: str | None = None
    ) -> AsyncGenerator[Record, None]:
        """Endless: records with an id above `after`, as they are committed."""
        async for page in self.pages(stream, after=after, node=node, item=item):
            for record in page:
                yield record

    async def pages(
        self, stream: Stream, *, after: int, node: bytes | None = None, item: str | None = None
    ) -> AsyncGenerator[list[Record], None]:
        """As `follow`, several at a time."""
        while True:
            woken = self._waiter(stream, node)
            last = self.last_id(stream)
            while after < last:
                page = await self._page(stream, after, last, node, item)
                if page:
                    yield page
                after = page[-1].id if len(page) == PAGE else last
            await asyncio.shield(woken)

    async def _page(
        self, stream: Stream, after: int, last: int, node: bytes | None, item: str | None
    ) -> list[Record]:
        if node is None:
            return await self.after(stream, after, upto=last)
        return await self._query(
            f"SELECT {_COLUMNS} FROM {stream.table} WHERE id > ? AND id <= ?"  # noqa: S608
            " AND +node = ? AND (? IS NULL OR +item = ?) ORDER BY id LIMIT ?",
            (after, last, node, item, item, PAGE),
            Record._make,
        )

    def _waiter(self, stream: Stream, node: bytes | None) -> asyncio.Future[None]:
        waiters = self._waiters.setdefault(stream, {})
        waiter = waiters.get(node)
        if waiter is None:
            waiter = waiters[node] = self._loop.create_future()
        return waiter

    def _wake_followers(self, batch: Batch) -> None:
        for stream, rows in batch.rows.items():
            waiters = self._waiters.get(stream)
            if not waiters:
                continue
            nodes = {None} if waiters.keys() == {None} else {None, *(row[0] for row in rows)}
            for node in nodes & waiters.keys():
                waiters.pop(node).set_result(None)

    async def _query(
        self, sql: str, values: tuple[object, ...], make: Callable[[tuple[object, ...]], T]
    ) -> list[T]:
        def run() -> list[T]:
            return [make(row) for row in self._connection.execute(sql, values)]

        try:
            return await self._loop.run_in_executor(self._reader, run)
        except apsw.Error as error:
            raise Unavailable(f"cannot read telemetry: {error}") from error


def _first_int(row: tuple[object, ...]) -> int:
    assert isinstance(row[0], int)
    return row[0]


def _pair(row: tuple[object, ...]) -> tuple[bytes, float]:
    node, at = row
    assert isinstance(node, bytes)
    assert isinstance(at, float)
    return node, at
