"""One session: dials out to the dispatcher, says hello, and is a console until either end ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from edgevirt.host.door import DoorError
from edgevirt.model.access import ConsoleGrant, ConsoleKind, ConsoleWish
from edgevirt.node.access.outbox import Outbox
from edgevirt.runtime import Clock
from edgevirt.wire.access import (
    MAX_FRAME,
    MAX_PAYLOAD,
    SECRET_SIZE,
    SESSION_HEADER,
    VERSION,
    VERSION_HEADER,
    AccessError,
    Data,
    End,
    Line,
    Role,
    session_token,
)

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_LOG: Final = logging.getLogger("edgevirt.access")

DIAL_SECONDS: Final = 10.0
HELLO_SECONDS: Final = 30.0
_PAUSES: Final = (1.0, 2.0, 5.0, 10.0)
"""Seconds between tries to reach the dispatcher; the last again and again."""

OpenConsole = Callable[[ConsoleWish], Awaitable[socket.socket]]


class Session:
    """`open_console` raises DoorError."""

    def __init__(
        self,
        grant: ConsoleGrant,
        uri: str,
        tls: ssl.SSLContext,
        open_console: OpenConsole,
        clock: Clock,
    ) -> None:
        self._grant = grant
        self._uri = uri
        self._tls = tls
        self._open_console = open_console
        self._clock = clock

    async def run(self) -> None:
        """Returns when it is over, for whatever reason: it is held once."""
        from websockets.exceptions import InvalidStatus, WebSocketException

        tries = 0
        while self._clock.now() < self._grant.end:
            try:
                connection = await self._dial()
            except InvalidStatus as refused:
                if refused.response.status_code < 500:
                    code = refused.response.status_code
                    _LOG.info("session %s is over: the dispatcher says %d", self._grant.id, code)
                    return
                why: Exception = refused
            except (OSError, WebSocketException, TimeoutError) as failure:
                why = failure
            else:
                with contextlib.suppress(WebSocketException):
                    await self._hold(connection)
                return
            pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
            tries += 1
            _LOG.warning("cannot reach the dispatcher: %s; again in %.0f s", why, pause)
            await self._clock.sleep(pause)

    async def _dial(self) -> ClientConnection:
        from websockets.asyncio.client import connect

        return await connect(
            self._uri,
            ssl=self._tls,
            proxy=None,
            compression=None,
            open_timeout=DIAL_SECONDS,
            max_size=MAX_FRAME,
            max_queue=4,
            additional_headers={
                SESSION_HEADER: session_token(self._grant),
                VERSION_HEADER: VERSION,
            },
        )

    async def _hold(self, connection: ClientConnection) -> None:
        line = Line(Role.NODE, self._grant.key, os.urandom(SECRET_SIZE))
        async with connection:
            try:
                await connection.send(line.hello)
                async with asyncio.timeout(HELLO_SECONDS):
                    line.hear(_bytes(await connection.recv()))
                grant = self._grant
                console = await self._open_console(ConsoleWish(app=grant.app, kind=grant.kind))
            except (DoorError, AccessError, TimeoutError) as failure:
                _LOG.warning("session %s: %s", self._grant.id, failure)
                if line.ready:
                    await connection.send(line.say(End(str(failure))))
                return
            with console:
                _LOG.info("session %s: %s console of %s", grant.id, grant.kind, grant.app)
                why = await self._relay(connection, line, console)
                _LOG.info("session %s has ended%s", grant.id, f": {why}" if why else "")
                if why:
                    await connection.send(line.say(End(why)))

    async def _relay(self, connection: ClientConnection, line: Line, console: socket.socket) -> str:
        """Until one side is done; why, if it is not what the operator wanted."""
        outbox = Outbox(lossy=self._grant.kind is ConsoleKind.SERIAL)
        reading = asyncio.create_task(_read(console, outbox))
        try:
            return await _first(
                _send(connection, line, outbox),
                _receive(connection, line, console),
                self._expire(),
            )
        except (AccessError, OSError) as failure:
            return str(failure)
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _expire(self) -> str:
        await self._clock.sleep(max(0.0, self._grant.end - self._clock.now()))
        return "the time of the session is over"


async def _first(*works: Coroutine[Any, Any, str]) -> str:
    """What the first one that is done returns, or raises."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(console: socket.socket, outbox: Outbox) -> None:
    """A console is always read, so that its guest never waits for a reader."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(console, MAX_PAYLOAD):
            outbox.put(data)
            await outbox.room()
    outbox.end()


async def _send(connection: ClientConnection, line: Line, outbox: Outbox) -> str:
    while data := await outbox.take(MAX_PAYLOAD):
        await connection.send(line.say(Data(data)))
    return "the app has ended"


async def _receive(connection: ClientConnection, line: Line, console: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    async for message in connection:
        said = line.hear(_bytes(message))
        if isinstance(said, End):
            return ""
        if isinstance(said, Data):
            await loop.sock_sendall(console, said.data)
    return ""


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
