"""The owner's side of a kind: keeps its values, and has them served."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from logging import Logger
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from edgevirt.runtime import frames
from edgevirt.runtime.journal import Journal
from edgevirt.runtime.persist import Directory
from edgevirt.runtime.resource import Kind, Resource
from edgevirt.runtime.serving import Server
from edgevirt.runtime.store import StoreError
from edgevirt.runtime.table import Table

T = TypeVar("T")
U = TypeVar("U")


class Owned(Protocol[T]):
    """What the store asks of a kind that its process owns."""

    table: Table[T]

    async def open(self) -> None:
        """Raises StoreError when another process owns the kind, or its values cannot be kept."""
        ...

    async def put(self, key: str, value: T, expect: int | None) -> Resource[T]: ...

    async def delete(self, key: str, expect: int | None) -> bool: ...

    async def close(self) -> None: ...


class Kept(Generic[T]):
    """A kind whose values live as long as the node's run: in a journal, without waiting."""

    def __init__(self, table: Table[T], server: Server[T], place: Path, log: Logger) -> None:
        self.table = table
        self._server = server
        self._place = place
        self._log = log
        self._version = 0
        self._journal: Journal | None = None

    async def open(self) -> None:
        self._server.claim()
        try:
            self._load(Journal(self._place, self._log))
            await self._server.open()
        except BaseException:
            await self.close()
            raise

    def _load(self, journal: Journal) -> None:
        kind = self.table.kind
        self._journal = journal
        kept = journal.load()
        for key, (version, data) in kept.values.items():
            try:
                value = kind.decode(data)
            except msgspec.MsgspecError as error:
                self._log.error("%s %r is forgotten: not of this kind: %s", kind.name, key, error)
            else:
                self.table.set(Resource(kind, key, value, version))
        self._version = self.table.version = kept.version

    async def put(self, key: str, value: T, expect: int | None) -> Resource[T]:
        table = self.table
        table.check_expected(key, expect)
        present = table.present.get(key)
        if present is not None and present.value == value:
            return present
        data = encode(table.kind, key, value)
        version = self._version + 1
        resource = Resource(table.kind, key, value, version)
        self._opened.put(key, version, data)
        self._version = version
        self._server.publish(resource, data)
        self._rewrite()
        return resource

    async def delete(self, key: str, expect: int | None) -> bool:
        self.table.check_expected(key, expect)
        if key not in self.table.present:
            return False
        version = self._version + 1
        self._opened.delete(key, version)
        self._version = version
        self.table.remove(key, version)
        self._rewrite()
        return True

    async def close(self) -> None:
        await self._server.close()
        self.table.audience.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @property
    def _opened(self) -> Journal:
        if self._journal is None:
            raise StoreError(f"cannot write {self.table.kind.name}: the store is not open")
        return self._journal

    def _rewrite(self) -> None:
        if self._opened.bloated:
            encode_value = self.table.kind.encode
            present = self.table.present.values()
            values = ((item.key, item.version, encode_value(item.value)) for item in present)
            self._opened.rewrite(values, self._version)


class Persistent(Generic[T]):
    """A kind whose values are files. Writes take turns, in `thread`; each is durable on return."""

    def __init__(
        self, table: Table[T], server: Server[T], files: Directory[T], thread: ThreadPoolExecutor
    ) -> None:
        self.table = table
        self._server = server
        self._files = files
        self._thread = thread
        self._version = 0
        self._turn = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        self._server.claim()
        try:
            loop = asyncio.get_running_loop()
            kept = await loop.run_in_executor(self._thread, self._files.load)
            for key, (version, value) in kept.values.items():
                self.table.set(Resource(self.table.kind, key, value, version))
            self._version = self.table.version = kept.version
            await self._server.open()
        except BaseException:
            await self.close()
            raise

    async def put(self, key: str, value: T, expect: int | None) -> Resource[T]:
        return await self._whole(self._put(key, value, expect))

    async def delete(self, key: str, expect: int | None) -> bool:
        return await self._whole(self._delete(key, expect))

    async def close(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes)
        await self._server.close()
        self.table.audience.close()

    async def _whole(self, write: Coroutine[Any, Any, U]) -> U:
        """A caller that is cancelled leaves the write to its end: table and files stay the same."""
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _put(self, key: str, value: T, expect: int | None) -> Resource[T]:
        table = self.table
        async with self._turn:
            table.check_expected(key, expect)
            present = table.present.get(key)
            if present is not None and present.value == value:
                return present
            data = encode(table.kind, key, value)
            self._version += 1
            resource = Resource(table.kind, key, value, self._version)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._files.put, key, resource.version, data)
            self._server.publish(resource, data)
            return resource

    async def _delete(self, key: str, expect: int | None) -> bool:
        async with self._turn:
            self.table.check_expected(key, expect)
            if key not in self.table.present:
                return False
            self._version += 1
            version = self._version
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._files.delete, key, version)
            self.table.remove(key, version)
            return True


def encode(kind: Kind[T], key: str, value: T) -> bytes:
    """Raises StoreError when it is too large to be sent."""
    data = kind.encode(value)
    if len(data) > frames.MAX_VALUE:
        size = f"{len(data)} bytes, more than {frames.MAX_VALUE}"
        raise StoreError(f"cannot put {kind.name} {key[:80]!r}: {size}")
    if len(key) > frames.MAX_KEY:
        raise StoreError(f"cannot put {kind.name}: a key of {len(key)} characters")
    return data
