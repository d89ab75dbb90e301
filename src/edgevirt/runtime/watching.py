"""What one watcher has not seen yet. The same for every driver, so the laws are kept once.

A watcher that is slower than the writers loses values in between, never the last one: at most one
undelivered event per key is held, and a key that came and went unseen is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from edgevirt.runtime.resource import Event, Gone, InStep, Put, Resource

T = TypeVar("T")


class Backlog(Generic[T]):
    """Events of one watcher, fed by a driver and polled by the watcher.

    They come in batches that are taken whole, so versions ascend from one to the next (after the
    first InStep) and no key can starve another.
    """

    def __init__(self) -> None:
        self._taken: Iterator[Event[T]] = iter(())
        self._head: dict[str, Put[T] | Gone[T]] = {}
        self._mark: InStep | None = None
        self._tail: dict[str, Put[T] | Gone[T]] = {}
        self._unseen: set[str] = set()

    def begin(self, events: Iterable[Event[T]]) -> None:
        """What comes first: the snapshot. Taken lazily, so that it costs no copy."""
        self._taken = iter(events)
        self._rouse()

    def put(self, resource: Resource[T], *, new: bool) -> None:
        """`new`: the key did not exist before."""
        key = resource.key
        if new and key not in self._head and key not in self._tail:
            self._unseen.add(key)
        self._add(key, Put(resource))

    def gone(self, resource: Resource[T]) -> None:
        key = resource.key
        if key in self._unseen:
            self._unseen.discard(key)
            self._head.pop(key, None)
            self._tail.pop(key, None)
            return
        self._add(key, Gone(resource))

    def in_step(self, version: int) -> None:
        """All that was fed so far comes before this mark."""
        for key, event in self._tail.items():
            self._head.pop(key, None)
            self._head[key] = event
        self._tail = {}
        self._mark = InStep(version)
        self._rouse()

    def poll(self) -> Event[T] | None:
        """The next event; None when the watcher has seen all."""
        for event in self._taken:
            return event
        if not self._head and not self._tail and self._mark is None:
            return None
        batch: list[Event[T]] = list(self._head.values())
        if self._mark is not None:
            batch.append(self._mark)
        batch.extend(self._tail.values())
        self._head, self._mark, self._tail = {}, None, {}
        self._unseen.clear()
        self._taken = iter(batch)
        return next(self._taken)

    def waiting(self) -> int:
        """Keys whose events wait to be taken."""
        return len(self._head) + len(self._tail)

    def _add(self, key: str, event: Put[T] | Gone[T]) -> None:
        if self._mark is not None and key in self._head:
            self._head[key] = event
        else:
            self._tail.pop(key, None)
            self._tail[key] = event
        self._rouse()

    def _rouse(self) -> None:
        """There may be something to poll."""
        raise NotImplementedError


class Watch(Backlog[T]):
    """An endless async iterator. Drivers hold it weakly: one that nobody holds is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._failure: Exception | None = None
        self._closed = False
        self._wake: asyncio.Future[None] | None = None

    def fail(self, failure: Exception) -> None:
        """The watcher gets `failure` instead of further events."""
        self._failure = failure
        self._rouse()

    def close(self) -> None:
        self._closed = True
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def __aiter__(self) -> Watch[T]:
        return self

    async def __anext__(self) -> Event[T]:
        while True:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            event = self.poll()
            if event is not None:
                return event
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    async def aclose(self) -> None:
        self.close()
