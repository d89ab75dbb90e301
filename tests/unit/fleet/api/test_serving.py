"""The server around the API: TLS, strangers, and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from edgevirt.fleet.api import Tls, create_app, serve
from edgevirt.fleet.api.serving import MAX_HEADERS
from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.operators.doors import Doors, Tokens
from edgevirt.fleet.operators.kubeconfig import issue
from edgevirt.fleet.operators.roles import ADMINS, User
from edgevirt.runtime import RealClock
from edgevirt.runtime.memory import MemoryStore
from tests.parts.operators_api import HERE


class Served:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = RealClock()
        self.ring = KeyRing(directory / "keys", ["127.0.0.1"], self.clock)
        self.port = 0
        self.task: asyncio.Task[None]

    async def serve(self, started: Callable[[int], None], patience: float) -> None:
        operators = self.ring.keys.operators.certificate
        access = Doors(Tokens(self.directory / "tokens.json"), operators, self.clock)
        app = create_app(MemoryStore(history=10), access, self.clock, Sealer(bytes(32)))
        tls = Tls(self.ring.tls_file, self.ring.operators_file)
        await serve(app, tls=tls, port=self.port, started=started, patience=patience)

    async def start(self, patience: float = 20.0) -> None:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self.serve(ready.set_result, patience))
        self.port = await ready

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    def context(self, user: User | None = None) -> ssl.SSLContext:
        """What a client trusts and shows."""
        context = ssl.create_default_context(cadata=self.ring.keys.root.pem.decode())
        if user is not None:
            credential = issue(self.ring.keys.operators.issuer, user, self.clock.now())
            pair = self.directory / f"{user.name}.pem"
            pair.write_bytes(credential.key + credential.certificate)
            context.load_cert_chain(pair)
        return context

    def client(self, user: User | None = None) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self.context(user), base_url=f"https://127.0.0.1:{self.port}"
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context())


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    await served.start()
    yield served
    await served.stop()


ADA = User("ada", (ADMINS,))


async def test_a_client_certificate_opens_the_api_and_none_does_not(served: Served) -> None:
    async with served.client(ADA) as client:
        assert (await client.get(f"{HERE}/edgenodes")).status_code == 200
        assert (await client.get(f"{HERE}/edgenodes")).status_code == 200, "kept alive"
    async with served.client() as client:
        assert (await client.get(f"{HERE}/edgenodes")).status_code == 401
        assert (await client.get("/healthz")).text == "ok"


async def test_a_stop_ends_watches_at_once(served: Served) -> None:
    async with (
        served.client(ADA) as client,
        client.stream("GET", "/api/v1/namespaces?watch=1") as answer,
    ):
        lines = answer.aiter_lines()
        assert '"default"' in await anext(lines)
        rest = asyncio.create_task(_all(lines))
        async with asyncio.timeout(10):
            await served.stop()
            assert await rest == []


async def _all(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines]


async def test_a_taken_port_is_an_error_of_its_own(served: Served, tmp_path: Path) -> None:
    second = Served(tmp_path)
    second.port = served.port
    with pytest.raises(OSError, match="already in use"):
        async with asyncio.timeout(60):
            await second.serve(lambda _port: None, 20.0)


async def test_endless_headers_are_cut_off(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"GET / HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(2 * MAX_HEADERS // 1024):
            writer.write(b"x: " + b"y" * 1021 + b"\r\n")
            await writer.drain()
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()


async def test_a_silent_stranger_is_let_go(tmp_path: Path) -> None:
    served = Served(tmp_path)
    await served.start(patience=0.05)
    try:
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
    finally:
        await served.stop()
