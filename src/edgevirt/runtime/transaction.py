"""The SQL of the SQL store: its tables, and what one transaction does to them. Blocking.

Portable between SQLite and PostgreSQL: no upsert dialects; the counter's row is locked by whoever
writes, so versions commit in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from edgevirt.runtime.resource import Event, Gone, Kind, Put, Resource
from edgevirt.runtime.store import Expired
from edgevirt.runtime.table import check_expected

T = TypeVar("T")

metadata = sa.MetaData()

_resources = sa.Table(
    "resource",
    metadata,
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
)

_changes = sa.Table(
    "change",
    metadata,
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Index("change_by_kind", "kind", "version"),
)

_counter = sa.Table(
    "counter",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

_this = (_resources.c.kind == sa.bindparam("k")) & (_resources.c.key == sa.bindparam("n"))
_select = sa.select(_resources.c.version, _resources.c.value).where(_this)
_select_all = sa.select(_resources.c.key, _resources.c.version, _resources.c.value).where(
    _resources.c.kind == sa.bindparam("k")
)
_insert = sa.insert(_resources)
_update = sa.update(_resources).where(_this)
_delete = sa.delete(_resources).where(_this)
_remember = sa.insert(_changes)
_forget = sa.delete(_changes).where(_changes.c.version <= sa.bindparam("v"))
_oldest = sa.select(sa.func.min(_changes.c.version))
_after = (
    sa.select(_changes.c.key, _changes.c.version, _changes.c.value, _changes.c.live)
    .where((_changes.c.kind == sa.bindparam("k")) & (_changes.c.version > sa.bindparam("v")))
    .order_by(_changes.c.version)
)
_read_counter = sa.select(_counter.c.version).with_for_update()
_advance = sa.update(_counter).values(version=sa.bindparam("v"))

Row = tuple[int, bytes]
"""Version and encoded value."""

Told = tuple[Event[Any], bool]
"""What watchers are told after the commit; and, of a Put, whether the key is new."""


def open_engine(url: str) -> sa.Engine:
    """The database, with its tables. Raises sqlalchemy.exc.SQLAlchemyError."""
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    with engine.begin() as connection:
        metadata.create_all(connection)
        if connection.execute(_read_counter).first() is None:
            connection.execute(sa.insert(_counter), {"id": 1, "version": 0})
    return engine


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not at the first write
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class Transaction:
    """Many requests' work on one connection, within a transaction that the caller began.

    Rows are read once and written at the end, together. `told` is what happened since it was last
    taken.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._began_at: int = connection.execute(_read_counter).scalar_one()
        self.version = self._began_at
        self._found: dict[tuple[str, str], Row | None] = {}
        self._now: dict[tuple[str, str], Row | None] = {}
        self._changed: list[dict[str, Any]] = []
        self._told: list[Told] = []

    def take_told(self) -> list[Told]:
        told, self._told = self._told, []
        return told

    def get(self, kind: Kind[T], key: str) -> Resource[T] | None:
        row = self._row(kind.name, key)
        return None if row is None else Resource(kind, key, kind.decode(row[1]), row[0])

    def all(self, kind: Kind[T]) -> dict[str, Resource[T]]:
        self._flush()
        decode = kind.decode
        return {
            key: Resource(kind, key, decode(value), version)
            for key, version, value in self._connection.execute(_select_all, {"k": kind.name})
        }

    def put(self, kind: Kind[T], key: str, value: T, expect: int | None) -> Resource[T]:
        row = self._row(kind.name, key)
        check_expected(kind.name, key, 0 if row is None else row[0], expect)
        data = kind.encode(value)
        if row is not None and (row[1] == data or kind.decode(row[1]) == value):
            return Resource(kind, key, value, row[0])
        self._set(kind.name, key, data, live=True)
        resource = Resource(kind, key, value, self.version)
        self._told.append((Put(resource), row is None))
        return resource

    def delete(self, kind: Kind[T], key: str, expect: int | None) -> bool:
        row = self._row(kind.name, key)
        check_expected(kind.name, key, 0 if row is None else row[0], expect)
        if row is None:
            return False
        self._set(kind.name, key, row[1], live=False)
        self._told.append((Gone(Resource(kind, key, kind.decode(row[1]), self.version)), False))
        return True

    def after(self, kind: Kind[T], since: int) -> list[Event[T]]:
        """Raises Expired when not all the changes after `since` are kept."""
        self._flush()
        first: int | None = self._connection.execute(_oldest).scalar_one()
        oldest = self.version if first is None else first - 1
        if not oldest <= since <= self.version:
            raise Expired(f"cannot watch {kind.name} since {since}: kept since {oldest}")
        events: list[Event[T]] = []
        rows = self._connection.execute(_after, {"k": kind.name, "v": since})
        for key, version, value, live in rows:
            resource = Resource(kind, key, kind.decode(value), version)
            events.append(Put(resource) if live else Gone(resource))
        return events

    def snapshot(self, kind: Kind[T]) -> Iterable[Event[T]]:
        """Decoded one by one as it is consumed: a table of 100,000 is never there twice."""
        self._flush()
        rows = list(self._connection.execute(_select_all, {"k": kind.name}))
        rows.reverse()
        return _unpack(kind, rows)

    def finish(self, history: int) -> None:
        """Writes what is to be written; the last `history` changes are kept."""
        self._flush()
        if self.version != self._began_at:
            self._connection.execute(_advance, {"v": self.version})
            self._connection.execute(_forget, {"v": self.version - history})

    def _row(self, kind: str, key: str) -> Row | None:
        place = (kind, key)
        if place in self._now:
            return self._now[place]
        if place not in self._found:
            found = self._connection.execute(_select, {"k": kind, "n": key}).first()
            self._found[place] = None if found is None else (found.version, found.value)
        return self._found[place]

    def _set(self, kind: str, key: str, data: bytes, *, live: bool) -> None:
        self.version += 1
        self._now[kind, key] = (self.version, data) if live else None
        self._changed.append(
            {"version": self.version, "kind": kind, "key": key, "live": live, "value": data}
        )

    def _flush(self) -> None:
        inserted: list[dict[str, Any]] = []
        updated: list[dict[str, Any]] = []
        deleted: list[dict[str, Any]] = []
        for (kind, key), row in self._now.items():
            before = self._found[kind, key]
            if row is not None:
                columns = {"version": row[0], "value": row[1]}
                if before is None:
                    inserted.append({"kind": kind, "key": key, **columns})
                else:
                    updated.append({"k": kind, "n": key, **columns})
            elif before is not None:
                deleted.append({"k": kind, "n": key})
        for statement, rows in (
            (_delete, deleted), (_insert, inserted), (_update, updated), (_remember, self._changed)
        ):  # fmt: skip
            if rows:
                self._connection.execute(statement, rows)
        self._found |= self._now
        self._now, self._changed = {}, []


def _unpack(kind: Kind[T], rows: list[Any]) -> Iterator[Put[T]]:
    """Of (key, version, value), the last one first; each is let go when it was told."""
    while rows:
        key, version, value = rows.pop()
        yield Put(Resource(kind, key, kind.decode(value), version))
