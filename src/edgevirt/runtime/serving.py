"""Serves one kind's table on a Unix socket.

Who connects is told by the kernel (SO_PEERCRED) and admitted by the kind's `readers`. A change
costs one frame per reader. A reader that is slower than the changes gets the latest of each key.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import Logger
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from edgevirt.runtime import frames
from edgevirt.runtime.frames import Frame
from edgevirt.runtime.resource import Event, Gone, InStep, Resource
from edgevirt.runtime.store import StoreError
from edgevirt.runtime.table import Table
from edgevirt.runtime.watching import Backlog

T = TypeVar("T")

CHUNK = 64 << 10
"""Bytes that are written at once when there is much to tell."""

CONNECTIONS = 16
"""Of one reader to one kind at once. It needs one."""

_credentials = struct.Struct("3i")


def peer_uid(transport: asyncio.BaseTransport) -> int:
    """The user id of the other end, from the kernel."""
    peer: socket.socket = transport.get_extra_info("socket")
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size)
    uid: int = _credentials.unpack(data)[1]
    return uid


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """`path`, or a shorter name of it where a socket's address (107 bytes) would not hold it."""
    if len(os.fsencode(path)) <= 107:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


class Server(Generic[T]):
    """`open` before use, `close` once. The lock makes its process the kind's only owner."""

    def __init__(
        self, table: Table[T], directory: Path, name: str, uid_names: Mapping[int, str], log: Logger
    ) -> None:
        self._table = table
        self._directory = directory
        self._name = name
        self._uid_names = uid_names
        self._log = log
        self._readers: list[_Reader[T]] = []
        self._connections: set[_Reader[T]] = set()
        self.closed = False
        self._refused: set[int] = set()
        self._memo: tuple[Resource[T] | None, bytes] = (None, b"")
        self._lock: int | None = None
        self._server: asyncio.Server | None = None

    def claim(self) -> None:
        """Raises StoreError when another process owns the kind. Freed by the kernel if we die."""
        path = self._directory / f"{self._table.kind.name}.lock"
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open(path, flags, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release_claim()
            why = "another process does" if isinstance(error, BlockingIOError) else error
            raise StoreError(f"cannot own {self._table.kind.name}: {why}") from error

    async def open(self) -> None:
        """Takes the place of a socket that a dead owner left."""
        path = self._directory / f"{self._table.kind.name}.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            listener.setblocking(False)
            with reachable(path) as address:
                listener.bind(address)
            path.chmod(0o666)  # the kernel's word about the peer decides, not the file's mode
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._connect, sock=listener)
        except OSError as error:
            listener.close()
            raise StoreError(f"cannot serve {self._table.kind.name}: {error}") from error

    async def close(self) -> None:
        self.closed = True
        if self._server is not None:
            self._server.close()
            self._server = None
            (self._directory / f"{self._table.kind.name}.sock").unlink(missing_ok=True)
        for reader in list(self._connections):
            reader.abort()
        for _ in range(10):  # turns of the loop that it takes to lose a connection
            if self._connections:
                await asyncio.sleep(0)
        self.release_claim()

    def release_claim(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def publish(self, resource: Resource[T], data: bytes) -> None:
        """Sets it in the table; `data`, its encoding, is made into a frame once for all readers."""
        if self._readers:
            self._memo = (resource, _put(resource, data))
        self._table.set(resource)
        self._memo = (None, b"")

    def frame(self, event: Event[T]) -> bytes:
        if isinstance(event, InStep):
            return frames.encode(Frame(frames.IN_STEP, "", event.version))
        resource = event.resource
        if isinstance(event, Gone):
            return frames.encode(Frame(frames.GONE, resource.key, resource.version))
        if resource is self._memo[0]:
            return self._memo[1]
        return _put(resource, resource.kind.encode(resource.value))

    def _connect(self) -> _Reader[T]:
        reader = _Reader(self)
        self._connections.add(reader)
        return reader

    def admit(self, uid: int) -> str | None:
        """Why user `uid` may not read; None when it may."""
        why = self._refusal(uid)
        if why is not None and uid not in self._refused:
            self._refused.add(uid)  # said once: nobody fills the log by trying again
            self._log.warning("%s refused to user %d: %s", self._table.kind.name, uid, why)
        return why

    def join(self, reader: _Reader[T]) -> bool:
        """Tells `reader` everything from now on. False when its user has enough connections."""
        if sum(1 for other in self._readers if other.uid == reader.uid) >= CONNECTIONS:
            return False
        self._readers.append(reader)
        self._table.subscribe(reader)
        return True

    def leave(self, reader: _Reader[T]) -> None:
        self._connections.discard(reader)
        if reader in self._readers:
            self._readers.remove(reader)
            self._table.audience.leave(reader)

    def _refusal(self, uid: int) -> str | None:
        name = self._uid_names.get(uid)
        if name is None:
            return f"user {uid} is no service"
        admitted = self._table.kind.readers
        if admitted is not None and name not in admitted and name != self._name:
            return f"{name} is none of its readers"
        return None


def _put(resource: Resource[Any], data: bytes) -> bytes:
    return frames.encode(Frame(frames.PUT, resource.key, resource.version, frames.raw(data)))


class _Reader(Backlog[T], asyncio.Protocol):
    """One connection: what its reader has not been told yet, told as fast as it takes it.

    When the transport has its fill (64 KiB by default), changes of one key coalesce here.
    """

    def __init__(self, server: Server[T]) -> None:
        super().__init__()
        self.uid = -1
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._server.closed:
            self._transport.abort()
            return
        self.uid = peer_uid(transport)
        why = self._server.admit(self.uid)
        if why is not None:
            self._transport.write(frames.encode(Frame(frames.DENIED, why, 0)))
            self._transport.close()
        elif not self._server.join(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.abort()  # a reader has nothing to say

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.leave(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._rouse()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _rouse(self) -> None:
        while not self._paused and self._transport is not None:
            chunk: list[bytes] = []
            size = 0
            while size < CHUNK:
                event = self.poll()
                if event is None:
                    break
                chunk.append(self._server.frame(event))
                size += len(chunk[-1])
            if not chunk:
                return
            self._transport.write(chunk[0] if len(chunk) == 1 else b"".join(chunk))
