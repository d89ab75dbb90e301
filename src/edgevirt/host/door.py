"""A way to hand what is open to another process, past what that one may open itself.

A Unix socket that keeps messages apart. Each connection is for one question: a message comes, and
an answer goes with one descriptor, or with the reason why there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

_LOG: Final = logging.getLogger(__name__)

MAX_MESSAGE: Final = 2048
SECONDS: Final = 20.0
"""For one question and its answer."""
_CREDENTIALS: Final = struct.Struct("3i")
"""Of the peer: process, user, group."""

Q = TypeVar("Q")


class DoorError(Exception):
    """«cannot X: why»."""


class Door(Generic[Q]):
    """The side that hands out.

    `user`: the only one who may ask, besides root. `kind`: of questions. `ask` returns a socket to
    hand over, which is closed here then, or raises DoorError.
    """

    def __init__(
        self, path: Path, user: int, kind: type[Q], ask: Callable[[Q], Awaitable[socket.socket]]
    ) -> None:
        self._path = path
        self._user = user
        self._kind = kind
        self._ask = ask

    async def serve(self) -> None:
        """Never returns. Raises OSError when it cannot listen."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.setblocking(False)
            self._path.unlink(missing_ok=True)
            listening.bind(str(self._path))
            self._path.chmod(0o600)
            os.chown(self._path, self._user, -1)
            listening.listen(8)
            loop = asyncio.get_running_loop()
            async with asyncio.TaskGroup() as group:
                while True:
                    asking, _ = await loop.sock_accept(listening)
                    group.create_task(self._answer(asking))

    async def _answer(self, asking: socket.socket) -> None:
        with asking:
            if _user_of(asking) not in (0, self._user):
                return
            try:
                async with asyncio.timeout(SECONDS):
                    question = await asyncio.get_running_loop().sock_recv(asking, MAX_MESSAGE)
                    handed = await self._ask(msgspec.json.decode(question, type=self._kind))
            except TimeoutError:
                _say(asking, f"cannot open it: it takes longer than {SECONDS:.0f} s")
            except (DoorError, msgspec.MsgspecError, OSError) as failure:
                _say(asking, str(failure))
            except Exception:  # noqa: BLE001  here a bug costs one question, not the whole service
                _LOG.exception("cannot answer at %s: a bug", self._path)
            else:
                with handed:
                    _say(asking, "", handed.fileno())


async def ask(path: Path, question: Any) -> socket.socket:
    """What is handed over: not blocking, the caller's to close. Raises DoorError."""
    return await asyncio.to_thread(_ask, path, msgspec.json.encode(question))


def _ask(path: Path, question: bytes) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.settimeout(SECONDS + 5.0)
        try:
            asking.connect(str(path))
            asking.sendall(question)
            why, handed, _, _ = socket.recv_fds(asking, MAX_MESSAGE, 1)
        except OSError as failure:
            raise DoorError(f"cannot ask for it: {failure}") from failure
    if not handed:
        raise DoorError(why.decode(errors="replace") or "cannot open it: nobody answers")
    found = socket.socket(fileno=handed[0])
    found.setblocking(False)
    return found


def _say(asking: socket.socket, why: str, *handed: int) -> None:
    """A message is never empty."""
    with contextlib.suppress(OSError):  # it went away
        socket.send_fds(asking, [why.encode()[: MAX_MESSAGE - 1] or b"\0"], list(handed))


def _user_of(asking: socket.socket) -> int:
    said = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(said)[1]
    return user
