"""HTTP/1.1 for the nodes' API: one raw protocol per connection, TLS in this process.

A framework costs more than the request itself here, so this is the transport and nothing else: it
bounds what a peer may send, and how long it may take; whatever comes whole goes to the application.
Requests of one connection are answered one after the other, pipelined ones included.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, cast

import httptools

from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.answering import Answering, Application, Waiting
from edgevirt.fleet.transport.replies import Response
from edgevirt.runtime import Clock

_KEEP: Final = b"\r\n"
_CLOSE: Final = b"Connection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_EXPECTS: Final = b"expect: 100-continue"
_END_OF_HEADERS: Final = b"\r\n\r\n"
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


@dataclass(frozen=True)
class Limits:
    """Bounds on what a peer may cost. Bytes and seconds."""

    header_bytes: int = 16_384
    header_seconds: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 60.0
    idle_seconds: float = 180.0
    """Between requests; nodes ask about once a minute."""
    write_seconds: float = 60.0
    """For a peer that doesn't take its answer."""
    pipelined: int = 32
    connections: int = 20_000
    buffered_bytes: int = 256 << 20
    """Of all bodies that are on their way in."""


class _Refused(Exception):
    """Raised inside the parser's callbacks: answer this, then close."""

    def __init__(self, response: Response) -> None:
        self.response = response


class HttpServer:
    """Listens, and keeps the connections. One per process and event loop."""

    def __init__(
        self,
        application: Application,
        clock: Clock,
        limits: Limits | None = None,
        upgrades: Upgrades | None = None,
    ) -> None:
        self.body_limit = application.body_limit
        self.answering = Answering(application)
        self.upgrades = upgrades
        self.limits = limits or Limits()
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.closing = False
        self.buffered = 0
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
        "_between",
        "_body",
        "_body_limit",
        "_body_size",
        "_busy",
        "_closing",
        "_completed",
        "_deaf",
        "_head",
        "_header_bytes",
        "_in_headers",
        "_parser",
        "_path",
        "_queue",
        "_refused",
        "_server",
        "_transport",
        "_write_paused",
        "deadline",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Waiting] = deque()
        self._refused: Response | None = None
        self._busy = False
        self._closing = False
        self._deaf = False
        self._write_paused = False
        self._between = True
        self._in_headers = False
        self._completed = 0
        self._header_bytes = 0
        self._head = b""
        self._body_size = 0
        self.deadline = server.now + server.limits.header_seconds

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._server.closing or len(self._server.connections) >= self._server.limits.connections:
            self._transport.abort()
            return
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf or self._closing or self._refused is not None:
            return
        most = self._server.limits.header_bytes
        if self._between and len(data) > most and data.find(_END_OF_HEADERS, 0, most) < 0:
            self._refused = replies.HEADERS_TOO_LARGE
        else:
            self._feed(data)
        self._pump()

    def _feed(self, data: bytes) -> None:
        completed = self._completed
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if not self._hand_over(self._head + data):
                self._pass_over_upgrade()
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                raise
            self._refused = error.__context__.response
        except httptools.HttpParserError:
            self._refused = replies.BAD_REQUEST
        else:
            if not self._between:
                self._watch_rest(data, others=completed != self._completed)

    def _watch_rest(self, data: bytes, *, others: bool) -> None:
        """The rest of a request is still to come. `others`: requests before it were in `data`.

        Headers are looked at here only, and not one by one: most requests come in one piece.
        """
        if self._in_headers:
            self._head += data
            self._header_bytes += 0 if others else len(data)
            if self._header_bytes > self._server.limits.header_bytes:
                self._refused = replies.HEADERS_TOO_LARGE
        elif not self._body_size and _EXPECTS in (self._head + data).lower():
            self._head = b""
            if self._transport is not None and not self._busy and not self._queue:
                self._transport.write(_CONTINUE)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._closing = True
        self._drop_body()
        self._queue.clear()
        self._transport = None
        self._server.forget(self)

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline = self._server.now + self._server.limits.write_seconds

    def resume_writing(self) -> None:
        self._write_paused = False
        self.deadline = self._server.now + self._server.limits.idle_seconds
        self._pump()

    # -- httptools --

    def on_message_begin(self) -> None:
        self._between = False
        self._in_headers = True
        self._path = self._head = b""
        self._body: list[bytes] = []
        self._header_bytes = 0
        if len(self._queue) >= self._server.limits.pipelined:
            raise _Refused(replies.UNAVAILABLE)
        if not self._busy:
            self.deadline = self._server.now + self._server.limits.header_seconds

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_headers_complete(self) -> None:
        server = self._server
        self._in_headers = False
        self._body_limit = server.body_limit(self._path)
        if not self._busy:
            self.deadline = server.now + server.limits.body_seconds

    def on_body(self, body: bytes) -> None:
        server = self._server
        self._body_size += len(body)
        server.buffered += len(body)
        if self._body_size > self._body_limit:
            raise _Refused(replies.TOO_LARGE)
        if server.buffered > server.limits.buffered_bytes:
            raise _Refused(replies.UNAVAILABLE)
        self._body.append(body)

    def on_message_complete(self) -> None:
        chunks = self._body
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        parser = self._parser
        request = parser.get_method(), self._path, body
        self._queue.append((request, parser.should_keep_alive()))
        self._between = True
        self._completed += 1
        self._body = []
        self._drop_body()

    def _drop_body(self) -> None:
        self._server.buffered -= self._body_size
        self._body_size = 0

    def _hand_over(self, head: bytes) -> bool:
        """To who speaks what follows; the request alone came so far, as its answer is awaited."""
        upgrades, transport = self._server.upgrades, self._transport
        alone = len(self._queue) == 1 and not self._busy and self._refused is None
        if upgrades is None or transport is None or not alone or not upgrades.wants(head):
            return False
        self._queue.clear()
        self._closing = True
        self._transport = None
        self._server.forget(self)
        upgrades.take(transport, head)
        return True

    def _pass_over_upgrade(self) -> None:
        """What follows may speak another protocol and is not heard, a body included."""
        self._deaf = True
        if self._queue and self._queue[-1][0][0] != b"GET":
            self._queue.pop()
            self._refused = replies.NOT_IMPLEMENTED

    # -- requests, one after the other --

    def _pump(self) -> None:
        """Has the next request answered, when the peer is ready for it."""
        if self._queue and not self._busy and not self._write_paused and not self._closing:
            self._busy = True
            self.deadline = _NEVER
            self._server.answering.ask(self, self._queue.popleft())
        if self._transport is None:
            return
        if self._queue:
            self._transport.pause_reading()
        elif self._refused is not None and not self._busy and not self._closing:
            self._write(self._refused, _CLOSE)
            self._closing = True
            self._body = []
            self._drop_body()
            self.deadline = self._server.now + _LINGER_SECONDS

    def finish(self, keep_alive: bool, response: Response) -> None:
        """The answer that was waited for."""
        self._busy = False
        if self._transport is None:
            return
        self._answer(keep_alive, response)
        if self._queue or self._refused is not None:
            self._transport.resume_reading()
            self._pump()

    def _answer(self, keep_alive: bool, response: Response) -> None:
        server = self._server
        if keep_alive and not server.closing and not self._deaf:
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
        if not self._busy and not self._queue:
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
