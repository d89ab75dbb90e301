"""The Store in memory: for tests and simulations, and the plainest statement of the laws."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import chain
from typing import Any, TypeVar
from weakref import WeakSet

from edgevirt.runtime.resource import Event, Gone, InStep, Kind, Put, Resource
from edgevirt.runtime.store import Conflict, Expired
from edgevirt.runtime.watching import Watch

T = TypeVar("T")


class MemoryStore:
    """`history`: so many last changes are kept to serve `watch(since=…)`; 0 keeps none."""

    def __init__(self, *, history: int = 0) -> None:
        self._version = 0
        self._tables: dict[str, dict[str, Resource[Any]]] = {}
        self._watches: dict[str, WeakSet[Watch[Any]]] = {}
        self._history: deque[Put[Any] | Gone[Any]] = deque(maxlen=history)

    async def get(self, kind: Kind[T], key: str) -> Resource[T] | None:
        return self._table(kind).get(key)

    async def list(self, kind: Kind[T]) -> Mapping[str, Resource[T]]:
        return dict(self._table(kind))

    async def put(
        self, kind: Kind[T], key: str, value: T, *, expect: int | None = None
    ) -> Resource[T]:
        table = self._table(kind)
        present = table.get(key)
        check_expected(kind, key, present, expect)
        if present is not None and present.value == value:
            return present
        self._version += 1
        resource = Resource(kind, key, value, self._version)
        table[key] = resource
        self._history.append(Put(resource))
        for watch in self._watching(kind):
            watch.put(resource, new=present is None)
        return resource

    async def delete(self, kind: Kind[T], key: str, *, expect: int | None = None) -> bool:
        table = self._table(kind)
        present = table.get(key)
        check_expected(kind, key, present, expect)
        if present is None:
            return False
        self._version += 1
        last = Resource(kind, key, present.value, self._version)
        del table[key]
        self._history.append(Gone(last))
        for watch in self._watching(kind):
            watch.gone(last)
        return True

    def watch(self, kind: Kind[T], *, since: int | None = None) -> AsyncIterator[Event[T]]:
        watch: Watch[T] = Watch()
        first: Iterable[Event[T]]
        if since is None:
            first = map(Put, list(self._table(kind).values()))
        else:
            first = self._after(kind, since)
        watch.begin(chain(first, (InStep(self._version),)))
        self._watching(kind).add(watch)
        return watch

    async def close(self) -> None:
        for watch in chain.from_iterable(self._watches.values()):
            watch.close()

    def _table(self, kind: Kind[T]) -> dict[str, Resource[T]]:
        return self._tables.setdefault(kind.name, {})

    def _watching(self, kind: Kind[T]) -> WeakSet[Watch[T]]:
        return self._watches.setdefault(kind.name, WeakSet())

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


def check_expected(
    kind: Kind[Any], key: str, present: Resource[Any] | None, expect: int | None
) -> None:
    """Raises Conflict when the key is not at the version that the writer saw."""
    version = 0 if present is None else present.version
    if expect is not None and expect != version:
        raise Conflict(
            f"cannot write {kind.name} {key!r}: it is at version {version}, not {expect}"
        )
