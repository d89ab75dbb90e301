"""Who may touch what: declared access, checked in the process itself.

The drivers refuse foreign processes; this refuses our own code that strays from its declaration,
so that the printed graph of services is the truth.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from edgevirt.runtime.controller import Undeclared
from edgevirt.runtime.resource import Event, Kind, Resource
from edgevirt.runtime.store import Store, release

T = TypeVar("T")


class View:
    """The Inputs of a controller: the engine's tables, narrowed to the declared kinds.

    `get` answers with the value of this very moment (a long-running reconciler may ask again);
    `all` is a copy.
    """

    def __init__(
        self, tables: Mapping[str, Mapping[str, Any]], *, now: float, monotonic: float
    ) -> None:
        self._tables = tables
        self.now = now
        self.monotonic = monotonic

    def get(self, kind: Kind[T], key: str) -> T | None:
        return self._table(kind).get(key)

    def all(self, kind: Kind[T]) -> Mapping[str, T]:
        return MappingProxyType(dict(self._table(kind)))

    def _table(self, kind: Kind[T]) -> Mapping[str, T]:
        try:
            return self._tables[kind.name]
        except KeyError:
            raise Undeclared(f"cannot read {kind.name}: not declared") from None


def guard(store: Store, reads: Iterable[Kind[Any]], owns: Iterable[Kind[Any]]) -> Store:
    """`store`, where touching a kind that is not named raises Undeclared."""
    owned = frozenset(kind.name for kind in owns)
    return _Guarded(store, frozenset(kind.name for kind in reads) | owned, owned)


class _Guarded:
    def __init__(self, store: Store, readable: frozenset[str], owned: frozenset[str]) -> None:
        self._store = store
        self._readable = readable
        self._owned = owned

    async def get(self, kind: Kind[T], key: str) -> Resource[T] | None:
        self._check_read(kind)
        return await self._store.get(kind, key)

    async def list(self, kind: Kind[T]) -> Mapping[str, Resource[T]]:
        self._check_read(kind)
        return await self._store.list(kind)

    async def put(
        self, kind: Kind[T], key: str, value: T, *, expect: int | None = None
    ) -> Resource[T]:
        self._check_write(kind)
        return await self._store.put(kind, key, value, expect=expect)

    async def delete(self, kind: Kind[T], key: str, *, expect: int | None = None) -> bool:
        self._check_write(kind)
        return await self._store.delete(kind, key, expect=expect)

    def watch(self, kind: Kind[T], *, since: int | None = None) -> AsyncIterator[Event[T]]:
        self._check_read(kind)
        return self._store.watch(kind, since=since)

    async def close(self) -> None:
        await self._store.close()

    async def release(self, kind: Kind[Any]) -> None:
        self._check_write(kind)
        await release(self._store, [kind])

    def _check_read(self, kind: Kind[Any]) -> None:
        if kind.name not in self._readable:
            raise Undeclared(f"cannot read {kind.name}: not declared")

    def _check_write(self, kind: Kind[Any]) -> None:
        if kind.name not in self._owned:
            raise Undeclared(f"cannot write {kind.name}: not declared as owned")
