"""A socket's low-water mark: how much has to be there before its reader is woken (SO_RCVLOWAT).

A network without offloads brings a packet at a time, and each piece costs an HTTP client the same,
however small. So what comes fast is left with the kernel until it is worth a reader's while.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

WORTH_WHILE: Final = 128 * 1024
"""Bytes at most. httpcore reads half as much at a time."""
PATIENCE: Final = 0.1
"""Seconds that it takes until the mark is reached, if what comes goes on as it did."""
_GIVEN_UP: Final = 1.0
"""Seconds until what has come is read after all: who waits for a byte must see that one came."""


class LowWater:
    """The mark for the body of one answer, as a context. An answer that doesn't say its length has
    none: what is held back would never be enough at its end. `now`: seconds, of the event loop.
    """

    def __init__(self, answer: httpx.Response, now: Callable[[], float] | None = None) -> None:
        length = answer.headers.get("content-length", "")
        self._left = int(length) if length.isdecimal() else 0
        self._socket = answer.extensions["network_stream"].get_extra_info("socket")
        self._loop = asyncio.get_running_loop()
        self._now = now or self._loop.time
        self._mark = 1
        self._since, self._came = self._now(), 0
        self._giving_up: asyncio.TimerHandle | None = None

    def __enter__(self) -> LowWater:
        return self

    def __exit__(self, *failure: object) -> None:
        self._wait_no_longer()

    def came(self, size: int) -> None:
        """`size` bytes more have been read."""
        self._left = max(0, self._left - size)
        self._came += size
        seconds = self._now() - self._since
        if seconds >= PATIENCE:
            self._set(min(WORTH_WHILE, self._left, int(self._came * PATIENCE / seconds)))
            self._since, self._came = self._now(), 0
        elif self._left < self._mark:
            self._set(self._left)

    def _set(self, mark: int) -> None:
        """TLS adds to what it carries, so that what is left is never waited for in vain."""
        self._wait_no_longer()
        mark = max(1, mark)
        if mark != self._mark:
            with suppress(OSError):  # it is closed, or has no such mark: every byte wakes
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
            self._mark = mark
        if mark > 1:
            self._giving_up = self._loop.call_later(_GIVEN_UP, self._set, 1)

    def _wait_no_longer(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
