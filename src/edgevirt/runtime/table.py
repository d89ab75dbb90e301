"""The present values of one kind and those who watch them: what all drivers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar
from weakref import WeakSet

from edgevirt.runtime.resource import Event, InStep, Kind, Put, Resource
from edgevirt.runtime.store import Conflict
from edgevirt.runtime.watching import Backlog, Watch

T = TypeVar("T")


class Audience(Generic[T]):
    """Who watches a kind. Held weakly: a watch that its user dropped is gone."""

    def __init__(self) -> None:
        self._backlogs: WeakSet[Backlog[T]] = WeakSet()
        self._failure: Exception | None = None

    def join(self, backlog: Backlog[T], first: Iterable[Event[T]]) -> None:
        """Feeds `backlog`, which the caller holds: `first`, then what happens from now on."""
        self._backlogs.add(backlog)
        backlog.begin(first)
        if self._failure is not None and isinstance(backlog, Watch):
            backlog.fail(self._failure)

    def leave(self, backlog: Backlog[T]) -> None:
        self._backlogs.discard(backlog)

    def put(self, resource: Resource[T], *, new: bool) -> None:
        for backlog in self._backlogs:
            backlog.put(resource, new=new)

    def gone(self, last: Resource[T]) -> None:
        for backlog in self._backlogs:
            backlog.gone(last)

    def in_step(self, version: int) -> None:
        for backlog in self._backlogs:
            backlog.in_step(version)

    def fail(self, failure: Exception) -> None:
        """Every watcher, also a later one, gets `failure`."""
        self._failure = failure
        for backlog in list(self._backlogs):
            if isinstance(backlog, Watch):
                backlog.fail(failure)

    def close(self) -> None:
        for backlog in list(self._backlogs):
            if isinstance(backlog, Watch):
                backlog.close()


class Table(Generic[T]):
    """`whole`: watchers may be told InStep. A table that is not whole yet keeps them waiting."""

    def __init__(self, kind: Kind[T], *, whole: bool = True) -> None:
        self.kind = kind
        self.present: dict[str, Resource[T]] = {}
        self.version = 0
        """Of the last change."""
        self.whole = whole
        self.audience: Audience[T] = Audience()

    def check_expected(self, key: str, expect: int | None) -> None:
        present = self.present.get(key)
        check_expected(self.kind.name, key, 0 if present is None else present.version, expect)

    def set(self, resource: Resource[T]) -> None:
        new = resource.key not in self.present
        self.present[resource.key] = resource
        self.version = resource.version
        self.audience.put(resource, new=new)

    def remove(self, key: str, version: int) -> Resource[T]:
        """The last value, with the version of its deletion."""
        last = Resource(self.kind, key, self.present.pop(key).value, version)
        self.version = version
        self.audience.gone(last)
        return last

    def in_step(self) -> None:
        """The table is whole (again)."""
        self.whole = True
        self.audience.in_step(self.version)

    def subscribe(self, backlog: Backlog[T], first: Iterable[Event[T]] | None = None) -> None:
        """Feeds `backlog`, which the caller holds: `first`, or what there is; then changes."""
        if first is None:
            first = map(Put, list(self.present.values()))
        mark: Iterator[Event[T]] = iter((InStep(self.version),) if self.whole else ())
        self.audience.join(backlog, chain(first, mark))

    def watch(self, first: Iterable[Event[T]] | None = None) -> Watch[T]:
        watch: Watch[T] = Watch()
        self.subscribe(watch, first)
        return watch


def check_expected(kind: str, key: str, version: int, expect: int | None) -> None:
    """Raises Conflict when the key is not at the version that the writer saw (0: absent)."""
    if expect is not None and expect != version:
        raise Conflict(f"cannot write {kind} {key!r}: it is at version {version}, not {expect}")
