"""The drivers of the Store, each made so that one suite can be run on all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgevirt.runtime import Event, Gone, InStep, Kind, Put, Store
from edgevirt.runtime.memory import MemoryStore
from edgevirt.runtime.socket import SocketStore
from edgevirt.runtime.sql import HISTORY, SqlStore

PATIENCE = 90.0
"""Seconds until a test gives up waiting for what must come."""


class Thing(msgspec.Struct, frozen=True):
    number: int
    text: str = ""
    data: bytes = b""


THING = Kind("Thing", Thing)
KEPT = Kind("Kept", Thing, persistent=True)
OTHER = Kind("Other", Thing)

US = {os.getuid(): "reader"}


@dataclass
class Arena:
    """A store as its owner has it, and as a reader has it; for some drivers they are the same."""

    owner: Store
    reader: Store
    kind: Kind[Thing]
    restart: Callable[[], Coroutine[Any, Any, None]]
    """Ends the owner's process, as far as the store can tell, and starts it again; `owner` and
    (where it is the same) `reader` are new afterwards. Only for the LASTING drivers."""


Open = Callable[[Path, AsyncExitStack], Coroutine[Any, Any, Arena]]


async def open_memory(_: Path, stack: AsyncExitStack, *, history: int = 0) -> Arena:
    store = MemoryStore(history=history)
    stack.push_async_callback(store.close)
    return Arena(store, store, THING, _cannot_restart)


async def _cannot_restart() -> None:
    raise AssertionError("nothing survives in memory")


async def open_memory_history(path: Path, stack: AsyncExitStack) -> Arena:
    return await open_memory(path, stack, history=HISTORY)


def socket_owner(path: Path, **options: Any) -> SocketStore:
    return SocketStore(
        path / "run", "owner", (THING, KEPT, OTHER), (),
        uid_names=US, persist_dir=path / "persist", **options,
    )  # fmt: skip


def socket_reader(path: Path, **options: Any) -> SocketStore:
    return SocketStore(path / "run", "reader", (), (THING, KEPT, OTHER), uid_names=US, **options)


async def open_socket(path: Path, stack: AsyncExitStack, *, kind: Kind[Thing] = THING) -> Arena:
    reader = await stack.enter_async_context(socket_reader(path))
    owner = socket_owner(path)
    await owner.open()
    arena = Arena(owner, reader, kind, _cannot_restart)

    async def restart() -> None:
        await arena.owner.close()
        owner = socket_owner(path)
        await owner.open()
        arena.owner = owner

    async def close() -> None:
        await arena.owner.close()

    stack.push_async_callback(close)
    arena.restart = restart
    return arena


async def open_socket_persistent(path: Path, stack: AsyncExitStack) -> Arena:
    return await open_socket(path, stack, kind=KEPT)


async def open_sql(path: Path, stack: AsyncExitStack) -> Arena:
    url = f"sqlite:///{path}/store.db"
    store = SqlStore(url)
    await store.open()
    arena = Arena(store, store, THING, _cannot_restart)

    async def restart() -> None:
        await arena.owner.close()
        store = SqlStore(url)
        await store.open()
        arena.owner = arena.reader = store

    async def close() -> None:
        await arena.owner.close()

    stack.push_async_callback(close)
    arena.restart = restart
    return arena


DRIVERS: dict[str, Open] = {
    "memory": open_memory,
    "memory with history": open_memory_history,
    "socket": open_socket,
    "socket, persistent": open_socket_persistent,
    "sql": open_sql,
}
LASTING = ("socket", "socket, persistent", "sql")
"""What they hold survives a restart."""
HISTORIC = ("memory with history", "sql")
"""They serve `since`."""


class Follower:
    """Watches in the background and holds what a watcher knows by now."""

    def __init__(self, watch: AsyncIterator[Event[Thing]]) -> None:
        self.values: dict[str, Thing] = {}
        self.versions: dict[str, int] = {}
        self.events: list[Event[Thing]] = []
        self._watch = watch
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._follow())

    @property
    def in_step(self) -> int:
        """How often it was told."""
        return sum(isinstance(event, InStep) for event in self.events)

    async def until(self, true: Callable[[Follower], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self._task.done() or true(self))
        if self._task.done():
            self._task.result()
        assert true(self)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _follow(self) -> None:
        async for event in self._watch:
            async with self._news:
                self._note(event)
                self._news.notify_all()

    def _note(self, event: Event[Thing]) -> None:
        self.events.append(event)
        if isinstance(event, InStep):
            return
        key, version = event.resource.key, event.resource.version
        assert version > self.versions.get(key, 0), f"{key!r} went back to {version}"
        self.versions[key] = version
        if isinstance(event, Put):
            self.values[key] = event.resource.value
        elif isinstance(event, Gone):
            self.values.pop(key, None)


async def take(watch: AsyncIterator[Event[Thing]], count: int) -> list[Event[Thing]]:
    """The next `count` events."""
    async with asyncio.timeout(PATIENCE):
        return [await anext(watch) for _ in range(count)]


async def take_snapshot(watch: AsyncIterator[Event[Thing]]) -> dict[str, Thing]:
    """What a watcher knows when it is first told InStep."""
    values: dict[str, Thing] = {}
    async with asyncio.timeout(PATIENCE):
        async for event in watch:
            if isinstance(event, InStep):
                break
            if isinstance(event, Put):
                values[event.resource.key] = event.resource.value
            else:
                values.pop(event.resource.key, None)
    return values
