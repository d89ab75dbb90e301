"""The Store in memory: for tests and simulations, and the plainest statement of the laws."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, TypeVar

from edgevirt.runtime.resource import Event, Gone, Kind, Put, Resource
from edgevirt.runtime.store import Expired
from edgevirt.runtime.table import Table

T = TypeVar("T")


class MemoryStore:
    """`history`: so many last changes are kept to serve `watch(since=…)`; 0 keeps none."""

    def __init__(self, *, history: int = 0) -> None:
        self._version = 0
        self._tables: dict[str, Table[Any]] = {}
        self._history: deque[Put[Any] | Gone[Any]] = deque(maxlen=history)

    async def get(self, kind: Kind[T], key: str) -> Resource[T] | None:
        return self._table(kind).present.get(key)

    async def list(self, kind: Kind[T]) -> Mapping[str, Resource[T]]:
        return dict(self._table(kind).present)

    async def put(
        self, kind: Kind[T], key: str, value: T, *, expect: int | None = None
    ) -> Resource[T]:
        table = self._table(kind)
        table.check_expected(key, expect)
        present = table.present.get(key)
        if present is not None and present.value == value:
            return present
        kind.encode(value)  # what no other store could take is no value here either
        self._version += 1
        resource = Resource(kind, key, value, self._version)
        self._history.append(Put(resource))
        table.set(resource)
        return resource

    async def delete(self, kind: Kind[T], key: str, *, expect: int | None = None) -> bool:
        table = self._table(kind)
        table.check_expected(key, expect)
        if key not in table.present:
            return False
        self._version += 1
        self._history.append(Gone(table.remove(key, self._version)))
        return True

    def watch(self, kind: Kind[T], *, since: int | None = None) -> AsyncIterator[Event[T]]:
        table = self._table(kind)
        table.version = self._version
        return table.watch(None if since is None else self._after(kind, since))

    async def close(self) -> None:
        for table in self._tables.values():
            table.audience.close()

    def _table(self, kind: Kind[T]) -> Table[T]:
        if kind.name not in self._tables:
            self._tables[kind.name] = Table(kind)
        return self._tables[kind.name]

    def _after(self, kind: Kind[T], since: int) -> Iterable[Event[T]]:
        kept = self._history
        oldest = self._version - len(kept)
        if not kept.maxlen or not oldest <= since <= self._version:
            raise Expired(f"cannot watch {kind.name} since {since}: kept since {oldest}")
        return [
            event
            for event in kept
            if event.resource.version > since and event.resource.kind.name == kind.name
        ]
