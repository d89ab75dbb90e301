"""An HTTP server that answers what a test says, byte for byte: cuts, stalls and lies included."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RoughServer:
    url: str
    requests: list[Request] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]


@asynccontextmanager
async def rough_server(
    handler: Handler, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RoughServer]:
    """On a free port of the loopback. Each connection serves one request."""
    seen = RoughServer("")
    open_: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                request = await _read(reader)
                seen.requests.append(request)
                await handler(request, writer)
        except asyncio.CancelledError:
            pass
        finally:
            open_.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield seen
    finally:
        server.close()
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.split(":", 1) for line in lines)
    return Request(method, path, {name.lower(): value.strip() for name, value in pairs})


def answer(writer: asyncio.StreamWriter, status: int, body: bytes = b"", **headers: str) -> None:
    """A whole answer. `content_length="…"` lies about the length; names have `_` for `-`."""
    lines = {"content-length": str(len(body)), "connection": "close"}
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status} Words\r\n{head}\r\n".encode("latin-1") + body)
