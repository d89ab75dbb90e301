"""The tables of telemetry: one per stream, all of one shape, so that the code is one table too."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import apsw

MIB: Final = 1 << 20
DAY: Final = 86_400.0
ROW_OVERHEAD: Final = 160
"""Bytes that a row costs besides its payload, index included; a round figure for quotas."""


class Unavailable(Exception):
    """Nothing was stored: the disk is full or failing. The sender must try again later."""


class Stream(enum.IntEnum):
    INFO = 0
    METRICS = 1
    LOGS = 2
    FLOWS = 3
    HEALTH = 4

    @property
    def table(self) -> str:
        return self.name.lower()


class Record(NamedTuple):
    """One report as it came.

    `id` grows within a stream in the order of commits, and is never used twice. `node`: 16 bytes
    of UUID. `item`: what of the node it is about (an app's UUID; for info the object), empty for
    the node itself. `at`: the node's time, `received`: ours, both in seconds since 1970.
    """

    id: int
    node: bytes
    item: str
    at: float
    received: float
    payload: bytes


Row = tuple[bytes, str, float, float, int, bytes]
"""A record on its way in: node, item, at, received, checksum, payload."""


@dataclass(frozen=True)
class Quota:
    """The oldest records go when a stream grows beyond either. Bytes; seconds."""

    max_bytes: int
    max_age: float


DEFAULT_QUOTAS: Final[Mapping[Stream, Quota]] = MappingProxyType(
    {
        Stream.INFO: Quota(512 * MIB, 30 * DAY),
        Stream.METRICS: Quota(2048 * MIB, 7 * DAY),
        Stream.LOGS: Quota(4096 * MIB, 30 * DAY),
        Stream.FLOWS: Quota(1024 * MIB, 7 * DAY),
        Stream.HEALTH: Quota(128 * MIB, 365 * DAY),
    }
)

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {table} (
  id INTEGER PRIMARY KEY,
  node BLOB NOT NULL,
  item TEXT NOT NULL,
  at REAL NOT NULL,
  received REAL NOT NULL,
  checksum INTEGER NOT NULL,
  payload BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS {table}_once ON {table} (node, item, at, checksum);
"""
_SHARED: Final = """
CREATE TABLE IF NOT EXISTS stream (name TEXT PRIMARY KEY, last_id INTEGER, bytes INTEGER);
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS seen (node BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


def open_database(path: str) -> apsw.Connection:
    """The writer's connection; each commit is on disk when it returns."""
    connection = apsw.Connection(path)
    connection.set_busy_timeout(5_000)

    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    connection.execute(f"PRAGMA journal_size_limit={64 * MIB}")
    with connection:
        connection.execute(_SHARED)
        for stream in Stream:
            connection.execute(_TABLE.format(table=stream.table))
            connection.execute("INSERT OR IGNORE INTO stream VALUES (?, 0, 0)", (stream.table,))
    return connection


def open_reader(path: str) -> apsw.Connection:
    """A connection that only reads, beside the writer's."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5_000)
    return connection
