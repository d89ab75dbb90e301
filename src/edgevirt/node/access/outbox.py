"""What a guest printed and nobody has taken yet: bounded, whoever is slow."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

LIMIT: Final = 256 << 10
"""Bytes."""
NOTICE: Final = (
    "\r\n[edgevirt: {} bytes are left out here: they came faster than they were taken]\r\n"
)


class Outbox:
    """One puts, one takes. `lossy`: when it is full the oldest is dropped, and that is said in its
    place; otherwise whoever puts has to wait for `room`."""

    def __init__(self, *, lossy: bool, limit: int = LIMIT) -> None:
        self._lossy = lossy
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._ended = False

    def put(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._lossy:
            while self._size > self._limit and len(self._chunks) > 1:
                self._dropped += self._pop()
        elif self._size >= self._limit:
            self._roomy.clear()
        self._filled.set()

    def end(self) -> None:
        """Nothing more will come; what is there can still be taken."""
        self._ended = True
        self._filled.set()

    async def room(self) -> None:
        await self._roomy.wait()

    async def take(self, most: int) -> bytes:
        """The next bytes, at least one; none at the end."""
        while not self._chunks and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return NOTICE.format(dropped).encode()
        taken = b""
        while self._chunks and len(taken) < most:
            chunk = self._chunks.popleft()
            room = most - len(taken)
            if len(chunk) > room:
                self._chunks.appendleft(chunk[room:])
            taken += chunk[:room]
        self._size -= len(taken)
        if self._size < self._limit:
            self._roomy.set()
        return taken

    def _pop(self) -> int:
        size = len(self._chunks.popleft())
        self._size -= size
        return size
