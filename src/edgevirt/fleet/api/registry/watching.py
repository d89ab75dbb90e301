"""The events of a watch: what becomes visible, changes and vanishes behind a selector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.bodies.drafts import Held
from edgevirt.fleet.api.errors import ApiError
from edgevirt.fleet.api.registry.registry import Registry
from edgevirt.fleet.api.registry.selectors import Selector
from edgevirt.fleet.api.shapes.shapes import encode
from edgevirt.fleet.objects.base.object import ApiObject
from edgevirt.fleet.objects.kinds import ApiKind
from edgevirt.runtime.resource import Event, Gone, InStep
from edgevirt.runtime.store import Expired, StoreError

BOOKMARK_SECONDS = 60.0
INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True)
class Change:
    """`type` as in Kubernetes: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    held: Held | None = None
    version: int = 0
    """Of a BOOKMARK: all up to here was told."""
    initial_end: bool = False
    """Of a BOOKMARK: it ends the present state."""
    error: ApiError | None = None


@dataclass(frozen=True)
class Wanted:
    """`since`: a version, to go on from there; None: begin with what there is. `initial_end`: mark
    its end. `seconds`: for how long."""

    kind: ApiKind[Any]
    namespace: str | None
    selector: Selector
    since: int | None
    bookmarks: bool = False
    initial_end: bool = False
    silent_start: bool = False
    """Do not tell what there is, only what comes."""
    seconds: float = 1800.0


class Watching:
    """One watch. `start` before iterating: it raises when `since` is too old."""

    def __init__(self, registry: Registry, wanted: Wanted, stop: asyncio.Event) -> None:
        self._registry = registry
        self._wanted = wanted
        self._stop = stop
        self._seen: dict[str, ApiObject] = {}
        self._in_step = False
        self._version = wanted.since or 0
        self._events: AsyncIterator[Event[Any]]
        self._first: Event[Any] | None = None

    async def start(self) -> None:
        wanted = self._wanted
        try:
            self._events = self._registry.store.watch(wanted.kind.store, since=wanted.since)
            self._first = await anext(self._events)
        except Expired:
            why = f"too old resource version: {wanted.since}: list again"
            raise errors.gone(why) from None

    async def changes(self) -> AsyncIterator[Change]:
        """Ends after `seconds`, or when the API stops."""
        clock = self._registry.clock
        until = clock.monotonic() + self._wanted.seconds
        coming: asyncio.Task[Event[Any]] | None = None
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            if self._first is not None:
                async for change in self._told(self._first):
                    yield change
            while (left := until - clock.monotonic()) > 0 and not self._stop.is_set():
                coming = coming or asyncio.ensure_future(_next(self._events))
                timer = asyncio.ensure_future(clock.sleep(min(left, BOOKMARK_SECONDS)))
                await asyncio.wait({coming, stopped, timer}, return_when="FIRST_COMPLETED")
                timer.cancel()
                if coming.done():
                    done, coming = coming, None
                    async for change in self._told(done.result()):
                        yield change
                elif self._wanted.bookmarks and not stopped.done():
                    yield await self._bookmark()
        except StopAsyncIteration:
            return
        except Expired:
            yield Change("ERROR", error=errors.gone("too old resource version: list again"))
        except StoreError as error:
            why = ApiError(500, "InternalError", f"cannot go on watching: {error}")
            yield Change("ERROR", error=why)
        finally:
            stopped.cancel()
            if coming is not None:
                coming.cancel()

    async def _bookmark(self) -> Change:
        """At the store's present version, if nothing that is still to be told comes before it."""
        try:
            probe = self._registry.store.watch(self._wanted.kind.store, since=self._version)
            event = await anext(probe)
        except Expired:  # only this watch still knows
            return Change("BOOKMARK", version=self._version)
        if isinstance(event, InStep):
            self._version = event.version
        return Change("BOOKMARK", version=self._version)

    async def _told(self, event: Event[Any]) -> AsyncIterator[Change]:
        if isinstance(event, InStep):
            self._version = max(self._version, event.version)
            if not self._in_step and self._wanted.initial_end:
                yield Change("BOOKMARK", version=self._version, initial_end=True)
            self._in_step = True
            return
        self._version = max(self._version, event.resource.version)
        namespace = self._wanted.namespace
        if namespace is not None and not event.resource.key.startswith(f"{namespace}/"):
            return
        held = self._registry.objects.served(self._wanted.kind, event.resource)
        if isinstance(event, Gone):
            for change in self._gone(event.resource.key, held):
                yield change
            return
        unseen = event.resource.key not in self._seen
        known = unseen and await self._was_there(event.resource.key, held)
        for change in self._put(event.resource.key, held, known=known):
            yield change

    def _put(self, key: str, held: Held, *, known: bool) -> Iterator[Change]:
        """`known`: the watcher may have seen the object before this watch."""
        before = self._seen.get(key)
        if before is not None and before.metadata.uid != held.value.metadata.uid:
            yield Change("DELETED", replace(held, value=before))
            before = None
        if self._wanted.selector.matches(held.value):
            self._seen[key] = held.value
            if self._in_step or not self._wanted.silent_start:
                old = before is not None or known
                yield Change("MODIFIED" if old else "ADDED", held)
            return
        self._seen.pop(key, None)
        if before is not None:
            yield Change("DELETED", replace(held, value=before))
        elif known:
            yield Change("DELETED", held)

    def _gone(self, key: str, held: Held) -> Iterator[Change]:
        before = self._seen.pop(key, None)
        if before is not None or (self._resumed and self._wanted.selector.matches(held.value)):
            yield Change("DELETED", held)

    @property
    def _resumed(self) -> bool:
        """What the watcher knew before is not known here."""
        return self._wanted.since is not None

    async def _was_there(self, key: str, held: Held) -> bool:
        """Whether an object that comes up first was there at `since`."""
        since = self._wanted.since
        if since is None:
            return False
        born = await self._registry.born(self._wanted.kind, key)
        return born <= since if born is not None else not _is_young(held.value)


def _is_young(value: ApiObject) -> bool:
    """Seems not to have changed since it was made. A guess for objects from before the API's start,
    and harmless when wrong: clients take ADDED and MODIFIED alike."""
    meta = value.metadata
    untouched = meta.generation <= 1 and len(meta.managed_fields) <= 1
    status = getattr(value, "status", None)
    fresh = status is None or encode(status) == encode(type(status)())
    return untouched and fresh and meta.deletion_timestamp is None


async def _next(events: AsyncIterator[Event[Any]]) -> Event[Any]:
    """As a coroutine, whose StopAsyncIteration a task can carry."""
    return await anext(events)


def bookmark_body(kind: ApiKind[Any], change: Change) -> errors.Json:
    meta: errors.Json = {"resourceVersion": str(change.version), "creationTimestamp": None}
    if change.initial_end:
        meta["annotations"] = {INITIAL_END: "true"}
    return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": meta}


def line(type: str, body: Any) -> bytes:
    return msgspec.json.encode({"type": type, "object": body}) + b"\n"
