"""The present values of one kind and those who watch them: what all drivers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from edgevirt.runtime.resource import Event, InStep, Kind, Put, Resource
from edgevirt.runtime.store import Conflict
from edgevirt.runtime.watching import Backlog, Watch

T = TypeVar("T")


class Table(Generic[T]):
    """`whole`: watchers may be told InStep. A table that is not whole yet keeps them waiting."""

    def __init__(self, kind: Kind[T], *, whole: bool = True) -> None:
        self.kind = kind
        self.present: dict[str, Resource[T]] = {}
        self.version = 0
        """Of the last change."""
        self.whole = whole
        self._backlogs: WeakSet[Backlog[T]] = WeakSet()
        self._failure: Exception | None = None

    def check_expected(self, key: str, expect: int | None) -> None:
        """Raises Conflict when the key is not at the version that the writer saw."""
        if expect is None:
            return
        present = self.present.get(key)
        version = 0 if present is None else present.version
        if expect != version:
            raise Conflict(
                f"cannot write {self.kind.name} {key!r}: it is at version {version}, not {expect}"
            )

    def set(self, resource: Resource[T]) -> None:
        new = resource.key not in self.present
        self.present[resource.key] = resource
        self.version = resource.version
        for backlog in self._backlogs:
            backlog.put(resource, new=new)

    def remove(self, key: str, version: int) -> Resource[T]:
        """The last value, with the version of its deletion."""
        last = Resource(self.kind, key, self.present.pop(key).value, version)
        self.version = version
        for backlog in self._backlogs:
            backlog.gone(last)
        return last

    def in_step(self) -> None:
        """The table is whole (again)."""
        self.whole = True
        for backlog in self._backlogs:
            backlog.in_step(self.version)

    def subscribe(self, backlog: Backlog[T], first: Iterable[Event[T]] | None = None) -> None:
        """Feeds `backlog`, held by the caller: `first`, or what there is; then changes."""
        if first is None:
            first = map(Put, list(self.present.values()))
        mark: Iterator[Event[T]] = iter((InStep(self.version),) if self.whole else ())
        self._backlogs.add(backlog)
        backlog.begin(chain(first, mark))

    def unsubscribe(self, backlog: Backlog[T]) -> None:
        self._backlogs.discard(backlog)

    def watch(self, first: Iterable[Event[T]] | None = None) -> Watch[T]:
        watch: Watch[T] = Watch()
        self.subscribe(watch, first)
        if self._failure is not None:
            watch.fail(self._failure)
        return watch

    def fail(self, failure: Exception) -> None:
        """Every watcher, also a later one, gets `failure`."""
        self._failure = failure
        for watch in self._watches():
            watch.fail(failure)

    def close(self) -> None:
        for watch in self._watches():
            watch.close()

    def _watches(self) -> Iterable[Watch[Any]]:
        return [backlog for backlog in self._backlogs if isinstance(backlog, Watch)]
