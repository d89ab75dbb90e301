"""The one thread that writes telemetry: what arrived during a commit is the next one.

Group commit needs no timer: while the disk syncs one batch, the next fills. A batch that cannot be
written fails as a whole and leaves nothing behind; the next one is tried afresh.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping
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
_AGE_EVERY: Final = 60.0
"""Seconds between looks for what is too old."""
_SAVE_EVERY: Final = 256
"""Commits after which sizes are saved; a start counts what came since."""


@dataclass
class Batch:
    """What is committed together. `done` resolves when it is on disk, or raises Unavailable."""

    done: asyncio.Future[None]
    rows: dict[Stream, list[Row]] = field(default_factory=dict)
    sizes: dict[Stream, int] = field(default_factory=dict)
    """Bytes of the rows' payloads."""
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
        self._unsaved = 0
        self._aged: dict[Stream, float] = {}
        for stream in Stream:
            self.last_ids[stream], self.sizes[stream] = _count(connection, stream)

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
                self._insert(stream, rows, batch.sizes[stream], last_ids, sizes)
                self._trim(stream, 2 * len(rows) + _TRIM_SLICE, sizes)
            for name, value in batch.marks.items():
                connection.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))
            if batch.seen:
                connection.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", batch.seen)
            self._save_sizes(last_ids, sizes)
            connection.execute("COMMIT")
        except BaseException:
            self._unsaved = _SAVE_EVERY
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            raise
        self.last_ids, self.sizes = last_ids, sizes

    def _insert(
        self,
        stream: Stream,
        rows: list[Row],
        size: int,
        last_ids: dict[Stream, int],
        sizes: dict[Stream, int],
    ) -> None:
        """A report that was already stored is stored once: nodes repeat what they got no answer
        for.
        """
        connection = self._connection
        before = connection.total_changes()
        connection.executemany(_INSERT[stream], rows)
        count = connection.total_changes() - before
        added = size
        if count != len(rows):
            added = connection.execute(_SUM_AFTER[stream], (last_ids[stream],)).get[0]
        if count:
            last_ids[stream] = connection.last_insert_rowid()
        sizes[stream] += added + ROW_OVERHEAD * count

    def _trim(self, stream: Stream, limit: int, sizes: dict[Stream, int]) -> None:
        """The newest record always stays: ids go on from it."""
        quota, now = self._quotas[stream], self._clock.now()
        excess = sizes[stream] - quota.max_bytes
        if excess <= 0 and now < self._aged.get(stream, 0.0) + _AGE_EVERY:
            return
        too_old = now - quota.max_age
        last, removed = 0, 0
        oldest = self._connection.execute(_OLDEST[stream], (limit,))
        for number, received, length in oldest:
            if removed >= excess and received >= too_old:
                break
            last, removed = number, removed + length + ROW_OVERHEAD
        else:
            limit = 0  # there may be more of them: look again with the next commit
        if limit:
            self._aged[stream] = now
        if last:
            self._connection.execute(_DELETE_UPTO[stream], (last,))
            sizes[stream] -= removed
            self._unsaved = _SAVE_EVERY

    def _save_sizes(self, last_ids: Mapping[Stream, int], sizes: Mapping[Stream, int]) -> None:
        self._unsaved += 1
        if self._unsaved > _SAVE_EVERY:
            for stream in Stream:
                values = (last_ids[stream], sizes[stream], stream.table)
                self._connection.execute(_SAVE, values)
            self._unsaved = 0


def _count(connection: apsw.Connection, stream: Stream) -> tuple[int, int]:
    """The newest id, and the size: as saved, and what came since."""
    saved = connection.execute("SELECT last_id, bytes FROM stream WHERE name = ?", (stream.table,))
    last_id, size = saved.get
    newest = connection.execute(f"SELECT coalesce(max(id), 0) FROM {stream.table}").get  # noqa: S608
    added = connection.execute(_SUM_AFTER[stream], (last_id,)).get
    return newest, size + added[0] + ROW_OVERHEAD * added[1]


_SAVE: Final = "UPDATE stream SET last_id = ?, bytes = ? WHERE name = ?"
_INSERT: Final = {
    stream: f"INSERT OR IGNORE INTO {stream.table} (node, item, at, received, checksum, payload)"  # noqa: S608
    " VALUES (?, ?, ?, ?, ?, ?)"
    for stream in Stream
}
_SUM_AFTER: Final = {
    stream: f"SELECT coalesce(sum(length(payload)), 0), count(*) FROM {stream.table} WHERE id > ?"  # noqa: S608
    for stream in Stream
}
_OLDEST: Final = {
    stream: f"SELECT id, received, length(payload) FROM {stream.table}"  # noqa: S608
    f" WHERE id < (SELECT max(id) FROM {stream.table}) ORDER BY id LIMIT ?"
    for stream in Stream
}
_DELETE_UPTO: Final = {
    stream: f"DELETE FROM {stream.table} WHERE id <= ?"  # noqa: S608
    for stream in Stream
}
