"""Whole tables at one version, for lists: kept in memory and brought up to date by what changed."""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgevirt.runtime.resource import Gone, InStep, Kind, Put, Resource
from edgevirt.runtime.store import Expired, Store, StoreError

TermsOf = Callable[[Any], Iterable[str]]
"""Words by which a value is to be found."""


def _no_terms(_value: Any) -> Iterable[str]:
    return ()


@dataclass
class Snapshot:
    """A kind's values at `version`; keys in order. Valid until the next await."""

    version: int = 0
    values: dict[str, Resource[Any]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    born: dict[str, int] = field(default_factory=dict)
    """The version at which a key appeared, of those that were not there from the beginning."""
    terms: TermsOf = _no_terms
    marked: dict[str, set[str]] = field(default_factory=dict)
    """Keys by the terms of their values."""

    def with_term(self, term: str) -> list[Resource[Any]]:
        return [self.values[key] for key in sorted(self.marked.get(term, ()))]

    def within(self, namespace: str | None) -> Sequence[str]:
        """The keys of a namespace (None: all), in order."""
        if namespace is None:
            return self.keys
        first = bisect.bisect_left(self.keys, f"{namespace}/")
        last = bisect.bisect_left(self.keys, f"{namespace}0")  # "0" follows "/"
        return self.keys[first:last]

    def of(self, namespace: str | None) -> Iterator[Resource[Any]]:
        return (self.values[key] for key in self.within(namespace))

    def _apply(self, event: Put[Any] | Gone[Any]) -> None:
        resource = event.resource
        present = self.values.get(resource.key)
        if present is not None:
            for term in self.terms(present.value):
                self.marked[term].discard(resource.key)
                if not self.marked[term]:
                    del self.marked[term]
        if isinstance(event, Put):
            for term in self.terms(resource.value):
                self.marked.setdefault(term, set()).add(resource.key)
        if isinstance(event, Put):
            if present is None:
                bisect.insort(self.keys, resource.key)
                self.born[resource.key] = resource.version
            self.values[resource.key] = resource
        elif present is not None:
            del self.values[resource.key]
            self.born.pop(resource.key, None)
            del self.keys[bisect.bisect_left(self.keys, resource.key)]


class Snapshots:
    """Reads the changes since the last time only, where the store keeps them."""

    def __init__(self, store: Store, terms: Mapping[str, TermsOf] | None = None) -> None:
        """`terms`: by the kind's name, how its values are to be found."""
        self._store = store
        self._terms = terms or {}
        self._held: dict[str, Snapshot] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def take(self, kind: Kind[Any]) -> Snapshot:
        """What the kind's table is right now."""
        async with self._locks.setdefault(kind.name, asyncio.Lock()):
            held = self._held.get(kind.name)
            if held is not None:
                try:
                    return await self._follow(kind, held, held.version)
                except Expired:
                    pass
            terms = self._terms.get(kind.name, _no_terms)
            whole = await self._follow(kind, Snapshot(terms=terms), None)
            self._held[kind.name] = whole
            return whole

    async def _follow(self, kind: Kind[Any], snapshot: Snapshot, since: int | None) -> Snapshot:
        events: list[Put[Any] | Gone[Any]] = []
        async for event in self._store.watch(kind, since=since):
            if isinstance(event, InStep):
                for change in events:
                    snapshot._apply(change)
                if since is None:
                    snapshot.born.clear()
                snapshot.version = event.version
                return snapshot
            events.append(event)
        raise StoreError(f"cannot list {kind.name}: the store was closed")
