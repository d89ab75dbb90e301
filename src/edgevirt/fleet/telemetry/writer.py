"""The one thread that writes telemetry: what arrived during a commit is the next one.

Group commit needs no timer: while the disk syncs one batch, the next fills. A batch that cannot be
written fails as a whole and leaves nothing behind; the next one is tried afresh.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import apsw

from edgevirt.fleet.telemetry.records import (
    ROW_OVERHEAD,
    Quota,
    Row,
    Stream,
    Unavailable,
)
from edgevirt.runtime import Clock

_log: Final = logging.getLogger(__name__)

_TRIM_SLICE: Final = 512
"""Rows deleted at most with one commit, beyond twice what it brought: bounds its time."""


@dataclass
class Batch:
    """What is committed together. `done` resolves when it is on disk, or raises Unavailable."""

    done: asyncio.Future[None]
    rows: dict[Stream, list[Row]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    seen: list[tuple[bytes, float]] = field(default_factory=list)


class Writer:
    """Owns the writing connection. Its thread never touches the event loop but to report."""

    def __init__(
        self,
        connection: apsw.Connection,
        quotas: Mapping[Stream, Quota],
        clock: Clock,
        report: Callable[[Batch, Exception | None], None],
    ) -> None:
        """`report` is called in the loop that called `start`, once per batch."""
        self._connection = connection
        self._quotas = quotas
        self._clock = clock
        self._report = report
        self._jobs: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.last_ids: dict[Stream, int] = {}
        self.sizes: dict[Stream, int] = {}
        for table, last_id, size in connection.execute("SELECT name, last_id, bytes FROM stream"):
            stream = Stream[str(table).upper()]
            self.last_ids[stream], self.sizes[stream] = last_id, size

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        self._jobs.put(batch)

    def stop(self) -> None:
        """Returns when everything submitted is committed; blocks."""
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        assert self._loop is not None
        while (batch := self._jobs.get()) is not None:
            failure: Exception | None = None
            try:
                self._commit(batch)
            except apsw.Error as error:
                failure = Unavailable(f"cannot store telemetry: {error}")
            except Exception as error:  # noqa: BLE001  the thread must outlive a bug
                _log.exception("cannot store telemetry: a bug")
                failure = Unavailable(f"cannot store telemetry: {error!r}")
            self._loop.call_soon_threadsafe(self._report, batch, failure)

    def _commit(self, batch: Batch) -> None:
        last_ids, sizes = dict(self.last_ids), dict(self.sizes)
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for stream, rows in batch.rows.items():
                self._insert(stream, rows, last_ids, sizes)
                self._trim(stream, 2 * len(rows) + _TRIM_SLICE, sizes)
            self._save(batch, last_ids, sizes)
            connection.execute("COMMIT")
        except BaseException:
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            raise
        self.last_ids, self.sizes = last_ids, sizes

    def _insert(
        self,
        stream: Stream,
        rows: list[Row],
        last_ids: dict[Stream, int],
        sizes: dict[Stream, int],
    ) -> None:
        """A report that was already stored is stored once: nodes repeat what they got no answer
        for.
        """
        connection, first = self._connection, last_ids[stream] + 1
        before = connection.total_changes()
        connection.executemany(
            f"INSERT OR IGNORE INTO {stream.table} VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            _numbered(rows, first),
        )
        last_ids[stream] += len(rows)
        if connection.total_changes() - before == len(rows):
            added = sum(len(row.payload) for row in rows)
            count = len(rows)
        else:
            added, count = connection.execute(
                f"SELECT coalesce(sum(length(payload)), 0), count(*) FROM {stream.table}"  # noqa: S608
                " WHERE id >= ?",
                (first,),
            ).get
        sizes[stream] += added + ROW_OVERHEAD * count

    def _trim(self, stream: Stream, limit: int, sizes: dict[Stream, int]) -> None:
        quota, excess = self._quotas[stream], 0
        if sizes[stream] > quota.max_bytes:
            excess = sizes[stream] - quota.max_bytes
        too_old = self._clock.now() - quota.max_age
        last, removed = 0, 0
        oldest = self._connection.execute(
            f"SELECT id, received, length(payload) FROM {stream.table} ORDER BY id LIMIT ?",  # noqa: S608
            (limit,),
        )
        for number, received, length in oldest:
            if removed >= excess and received >= too_old:
                break
            last, removed = number, removed + length + ROW_OVERHEAD
        if last:
            self._connection.execute(f"DELETE FROM {stream.table} WHERE id <= ?", (last,))  # noqa: S608
            sizes[stream] -= removed

    def _save(
        self, batch: Batch, last_ids: Mapping[Stream, int], sizes: Mapping[Stream, int]
    ) -> None:
        for stream in batch.rows:
            self._connection.execute(
                "UPDATE stream SET last_id = ?, bytes = ? WHERE name = ?",
                (last_ids[stream], sizes[stream], stream.table),
            )
        for name, value in batch.marks.items():
            self._connection.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))
        if batch.seen:
            self._connection.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", batch.seen)


def _numbered(
    rows: list[Row], first: int
) -> Iterable[tuple[int, bytes, str, float, float, int, bytes]]:
    for number, (node, item, at, received, payload) in enumerate(rows, first):
        digest = hashlib.blake2b(payload, digest_size=8).digest()
        yield number, node, item, at, received, int.from_bytes(digest, "big", signed=True), payload
