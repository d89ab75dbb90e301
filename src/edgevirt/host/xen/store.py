"""A client of xenstored over its socket: reads, writes, and one word when a domain ends.

Only the standard library is used: the start of a guest waits for this. The format is Xen's
(xen/include/public/io/xs_wire.h): four numbers of 32 bits, then a payload of at most 4 KiB.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from pathlib import Path
from typing import Final, Self

SOCKET: Final = Path("/run/xenstored/socket")
DOMAIN_ENDED: Final = "@releaseDomain"
"""A watched path that changes when any domain ends, or shuts itself down."""
_READ, _WATCH, _WRITE, _REMOVE, _EVENT, _ERROR = 2, 4, 11, 13, 15, 16
_HEAD: Final = struct.Struct("=IIII")
_MOST: Final = 4096
_SECONDS: Final = 30.0


class StoreError(Exception):
    """«cannot X: why»."""


class XenStore:
    """One connection. Not for two threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(_SECONDS)
        self._events: deque[str] = deque()

    @classmethod
    def connect(cls, path: Path = SOCKET) -> Self:
        """Raises OSError."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_SECONDS)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    def fileno(self) -> int:
        """Readable when a watched path may have changed."""
        return self._connection.fileno()

    def read(self, path: str) -> str:
        """Empty: there is nothing. Raises StoreError."""
        try:
            return self._ask(_READ, path.encode() + b"\0").decode(errors="replace")
        except FileNotFoundError:
            return ""

    def write(self, path: str, value: str) -> None:
        """Raises StoreError."""
        self._ask(_WRITE, path.encode() + b"\0" + value.encode())

    def remove(self, path: str) -> None:
        """And all below it. Idempotent. Raises StoreError."""
        try:
            self._ask(_REMOVE, path.encode() + b"\0")
        except FileNotFoundError:
            return

    def watch(self, path: str) -> None:
        """From now on changes are told; one is told at once. Raises StoreError."""
        self._ask(_WATCH, path.encode() + b"\0" + path.encode() + b"\0")

    def changed(self) -> str:
        """The next path that changed; waits for it. Raises StoreError."""
        while not self._events:
            self._receive()
        return self._events.popleft()

    def _ask(self, kind: int, payload: bytes) -> bytes:
        if len(payload) > _MOST:
            raise StoreError("cannot ask xenstored: the question is too long")
        try:
            self._connection.sendall(_HEAD.pack(kind, 0, 0, len(payload)) + payload)
            while (answer := self._receive()) is None:
                pass
        except OSError as error:
            raise StoreError(f"cannot ask xenstored: {error}") from error
        answered, content = answer
        if answered == _ERROR:
            why = content.rstrip(b"\0").decode(errors="replace")
            if why == "ENOENT":
                raise FileNotFoundError(why)
            raise StoreError(f"cannot ask xenstored: it says {why}")
        return content

    def _receive(self) -> tuple[int, bytes] | None:
        """An answer; None: it was an event, which is kept."""
        kind, _, _, size = _HEAD.unpack(self._exactly(_HEAD.size))
        if size > _MOST:
            raise StoreError("cannot ask xenstored: its answer has no bounds")
        content = self._exactly(size)
        if kind == _EVENT:
            self._events.append(content.partition(b"\0")[0].decode(errors="replace"))
            return None
        return kind, content

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self._connection.recv(size - len(found))
            if not part:
                raise StoreError("cannot ask xenstored: it closed the connection")
            found += part
        return found
