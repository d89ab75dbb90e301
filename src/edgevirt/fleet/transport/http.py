"""HTTP/1.1 for the nodes' API: one raw protocol per connection, TLS in this process.

A framework costs more than the request itself here, so this is the transport and nothing else: it
bounds what a peer may send, and how long it may take; whatever comes whole goes to the application.
Requests of one connection are answered one after the other, pipelined ones included.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
from functools import partial
from typing import Final, Protocol, cast

from edgevirt.fleet.transport.answering import Answering, Application
from edgevirt.fleet.transport.incoming import Incoming, Intake, Limits
from edgevirt.fleet.transport.replies import Response
from edgevirt.runtime import Clock

_KEEP: Final = b"\r\n"
_CLOSE: Final = b"Connection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER: Final = float("inf")
_SHUTDOWN_SECONDS: Final = 1.0
"""For a peer to say that it, too, is done; idle ones never do."""
_LINGER_SECONDS: Final = 2.0
"""For a refused peer to read why before the line is cut; what it sends meanwhile is dropped."""


class Upgrades(Protocol):
    """What speaks with those who ask for another protocol."""

    def wants(self, head: bytes) -> bool:
        """`head`: the request, whole."""
        ...

    def take(self, transport: asyncio.Transport, head: bytes) -> None:
        """From here on the connection is its own."""
        ...

    def close(self) -> None: ...


class HttpServer:
    """Listens, and keeps the connections. One per process and event loop."""

    def __init__(
        self,
        application: Application,
        clock: Clock,
        limits: Limits | None = None,
        upgrades: Upgrades | None = None,
    ) -> None:
        self.answering = Answering(application)
        self.upgrades = upgrades
        self.limits = limits or Limits()
        self.intake = Intake(self.limits, application.body_limit)
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.closing = False
        self.now = clock.monotonic()
        self.date = _date_header(clock.now())
        self._clock = clock
        self._idle = asyncio.Event()
        self._listeners: list[asyncio.Server] = []

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Returns the port, which matters when 0 was asked for. Without `tls` (behind a proxy, or
        in a test) it speaks plain HTTP.
        """
        server = await self.loop.create_server(
            partial(Connection, self),
            host,
            port,
            ssl=tls,
            backlog=1024,
            ssl_handshake_timeout=self.limits.header_seconds if tls else None,
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS if tls else None,
        )
        self._listeners.append(server)
        return cast(int, server.sockets[0].getsockname()[1])

    async def run(self) -> None:
        """Watches the time: ends connections that overstay. Never returns."""
        while True:
            await self._clock.sleep(1.0)
            self.now = now = self._clock.monotonic()
            self.date = _date_header(self._clock.now())
            for connection in [c for c in self.connections if c.deadline < now]:
                connection.expire()

    async def close(self, grace_seconds: float = 10.0) -> None:
        """Answers what is under way, for at most that long, and takes no more."""
        self.closing = True
        for server in self._listeners:
            server.close()
        if self.upgrades is not None:
            self.upgrades.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            self._idle.clear()
            waiting = asyncio.ensure_future(self._idle.wait())
            patience = asyncio.ensure_future(self._clock.sleep(grace_seconds))
            await asyncio.wait([waiting, patience], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            patience.cancel()
        for connection in list(self.connections):
            connection.abort()

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._idle.set()


class Connection(asyncio.Protocol):
    """One peer. `deadline`, on the server's clock: when it has taken too long."""

    __slots__ = (
        "_busy",
        "_closing",
        "_incoming",
        "_server",
        "_transport",
        "_write_paused",
        "deadline",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._incoming = Incoming(server.intake)
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self._closing = False
        self._write_paused = False
        self.deadline = server.now + server.limits.header_seconds

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._server.closing or len(self._server.connections) >= self._server.limits.connections:
            self._transport.abort()
            return
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        incoming = self._incoming
        incoming.feed(data)
        if incoming.seconds is not None and not self._busy:
            self.deadline = self._server.now + incoming.seconds
        if incoming.waits and self._transport is not None and not self._busy and not incoming.queue:
            self._transport.write(_CONTINUE)
        if incoming.offer and not self._hand_over(incoming.offer):
            incoming.pass_over()
        self._pump()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self._incoming.drop()
        self._incoming.queue.clear()
        self._transport = None
        self._server.forget(self)

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self._server.now + self._server.limits.write_seconds

    def resume_writing(self) -> None:
        self._write_paused = False
        self.deadline = self._server.now + self._server.limits.idle_seconds
        self._pump()

    def _hand_over(self, head: bytes) -> bool:
        """To who speaks what follows; the request alone came so far, as its answer is awaited."""
        upgrades, transport, incoming = self._server.upgrades, self._transport, self._incoming
        alone = len(incoming.queue) == 1 and not self._busy
        if upgrades is None or transport is None or not alone or not upgrades.wants(head):
            return False
        incoming.queue.clear()
        self._closing = True
        self._transport = None
        self._server.forget(self)
        upgrades.take(transport, head)
        return True

    # -- requests, one after the other --

    def _pump(self) -> None:
        """Has the next request answered, when the peer is ready for it."""
        incoming = self._incoming
        if incoming.queue and not self._busy and not self._write_paused and not self._closing:
            self._busy = True
            self.deadline = _NEVER
            self._server.answering.ask(self, incoming.queue.popleft())
        if self._transport is None:
            return
        if incoming.queue:
            self._transport.pause_reading()
        elif incoming.refused is not None and not self._busy and not self._closing:
            self._write(incoming.refused, _CLOSE)
            self._closing = True
            incoming.drop()
            self.deadline = self._server.now + _LINGER_SECONDS

    def finish(self, keep_alive: bool, response: Response) -> None:
        """The answer that was waited for."""
        self._busy = False
        if self._transport is None:
            return
        self._answer(keep_alive, response)
        if self._incoming.queue or self._incoming.refused is not None:
            self._transport.resume_reading()
            self._pump()

    def _answer(self, keep_alive: bool, response: Response) -> None:
        server = self._server
        if keep_alive and not server.closing and not self._incoming.deaf:
            self._write(response, _KEEP)
            self.deadline = server.now + server.limits.idle_seconds
        else:
            self._write(response, _CLOSE)
            self._close()

    def _write(self, response: Response, end: bytes) -> None:
        if self._transport is not None:
            parts = (response.head, self._server.date, end, response.body)
            self._transport.write(b"".join(parts))

    def _close(self) -> None:
        self._closing = True
        self.deadline = self._server.now + self._server.limits.write_seconds
        if self._transport is not None:
            self._transport.close()

    # -- from the server --

    def close_when_idle(self) -> None:
        if not self._busy and not self._incoming.queue:
            self._close()

    def expire(self) -> None:
        """A peer that sends too slowly gets nothing: it could be slow in reading too."""
        self.abort()

    def abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()


def _date_header(now: float) -> bytes:
    """Tells the time to nodes that have no clock of their own."""
    return b"Date: " + email.utils.formatdate(now, usegmt=True).encode() + b"\r\n"
