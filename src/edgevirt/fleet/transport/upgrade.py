"""Connections of the nodes' front door that become websockets: taken over as they are.

The transport of the nodes' API hands such a connection on with the request that it came with.
"""

from __future__ import annotations

import asyncio
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from edgevirt.fleet.transport.websocket import WebSocketProtocol
from edgevirt.wire.access import MAX_FRAME

MOST: Final = 2_000
"""At a time; each is of a session that somebody waits for, or is refused at once."""


class Upgrades:
    """`path`: the only one that is taken over."""

    def __init__(self, path: str, app: ASGIApp) -> None:
        self._start = f"GET {path} HTTP/1.1\r\n".encode()
        self._config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            ws_max_size=MAX_FRAME,
            ws_per_message_deflate=False,
        )
        self._config.load()
        self._state = ServerState()

    def wants(self, head: bytes) -> bool:
        """`head`: a request as it came, whole."""
        return head.startswith(self._start) and len(self._state.connections) < MOST

    def take(self, transport: asyncio.Transport, head: bytes) -> None:
        protocol = WebSocketProtocol(self._config, self._state, {})
        protocol.connection_made(transport)
        transport.set_protocol(protocol)
        protocol.data_received(head)

    def close(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()
