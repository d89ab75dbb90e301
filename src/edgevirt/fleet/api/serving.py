"""Serves an app on TLS inside a running loop, and tells it the client's certificate."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgevirt.fleet.transport.websocket import CERTIFICATE, WebSocketProtocol
from edgevirt.runtime.clock import Clock
from edgevirt.wire.access import MAX_FRAME

MAX_CONNECTIONS = 2000
MAX_HEADERS = 64 * 1024
"""Bytes of a request's headers."""
HEADER_SECONDS = 20.0
"""Within which a request's headers must have come."""
DROP_SECONDS = 0.1
GRACE = 5
"""Seconds that a stop waits for requests under way."""


@dataclass(frozen=True)
class Tls:
    """`pair`: key and certificate of the server in one PEM file. `clients`: CA certificates of
    people's client certificates; whoever has none may still come with a token."""

    pair: Path
    clients: Path


class _Protocol(HttpToolsProtocol):
    """Puts the peer's certificate, which TLS verified, into the scope of each request; and bounds
    what a stranger can make the server wait for and hold before a request is known."""

    patience = HEADER_SECONDS
    _certificate: bytes | None = None
    _head: int | None = 0
    """Bytes of the request so far, while its headers are not complete."""
    _deadline: asyncio.TimerHandle | None = None

    @property
    def answered(self) -> bool:
        """Nothing is under way, and all that was said was sent."""
        idle = self.cycle is None or self.cycle.response_complete
        return idle and self.transport.get_write_buffer_size() == 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self._certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > MAX_HEADERS:
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope[CERTIFICATE] = self._certificate
        if self._head is None:
            self._head = 0
            self._wait_for_headers()

    def on_headers_complete(self) -> None:
        self._head = None
        self._stop_waiting()
        super().on_headers_complete()

    def _wait_for_headers(self) -> None:
        self._deadline = self.loop.call_later(self.patience, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """Leaves signals to the program, and says when it is ready."""

    def __init__(self, config: uvicorn.Config, clock: Clock) -> None:
        super().__init__(config)
        self._clock = clock
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        dropping = asyncio.create_task(self._drop_answered())
        await super().shutdown(sockets)
        dropping.cancel()

    async def _drop_answered(self) -> None:
        """Not every client answers the end of a TLS connection: those that have their answers need
        not be waited for."""
        while True:
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, _Protocol) and connection.answered:
                    connection.transport.abort()
            await self._clock.sleep(DROP_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Raises OSError or ssl.SSLError when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.pair)
    context.load_verify_locations(tls.clients)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def serve(
    app: Starlette,
    *,
    tls: Tls | ssl.SSLContext | None,
    host: str = "127.0.0.1",
    port: int = 0,
    started: Callable[[int], None] = lambda _port: None,
    patience: float = HEADER_SECONDS,
) -> None:
    """Serves until it is cancelled, then ends watches, waits `GRACE` for the rest, and returns by
    CancelledError. `started` is told the port. `tls`: a context of `tls_context`, where the
    certificate may be replaced while serving; without it anyone on the host can listen in.
    `patience`: seconds in which a request's headers must have come. Raises OSError when the
    port is taken.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        http=type("Protocol", (_Protocol,), {"patience": patience}),
        ws=WebSocketProtocol,
        ws_max_size=MAX_FRAME,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    config.load()
    config.ssl = tls_context(tls) if isinstance(tls, Tls) else tls
    server = _Server(config, app.state.api.registry.clock)
    await app.state.api.start()
    running = asyncio.create_task(server.serve([listener]), name="operators-api")
    try:
        await server.ready.wait()
        started(listener.getsockname()[1])
        await asyncio.shield(running)
    finally:
        app.state.api.stop()
        server.should_exit = True
        await running


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)
