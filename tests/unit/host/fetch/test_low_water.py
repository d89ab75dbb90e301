"""What is held back with the kernel: as much as is worth it, and never what would not come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.host.fetch.low_water import PATIENCE, WORTH_WHILE, LowWater
from edgevirt.host.fetch.source import Timeouts
from edgevirt.host.fetch.web import Web
from tests.parts.rough_server import Request, rough_server

MEBI = 1 << 20


class _Stream:
    """As httpcore's: it tells its socket."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self._line}[name]


class Body:
    """Of an answer whose socket is real, read in virtual time."""

    def __init__(self, line: socket.socket, length: int | None) -> None:
        headers = {} if length is None else {"content-length": str(length)}
        answer = httpx.Response(200, headers=headers, extensions={"network_stream": _Stream(line)})
        self.line, self.time = line, 0.0
        self.low_water = LowWater(answer, lambda: self.time)

    def came(self, size: int, after: float) -> None:
        self.time += after
        self.low_water.came(size)

    @property
    def mark(self) -> int:
        return self.line.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


@pytest.fixture
def line() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET) as made:
        yield made


async def test_what_comes_fast_is_left_with_the_kernel_until_it_is_worth_reading(
    line: socket.socket,
) -> None:
    body = Body(line, 100 * MEBI)
    with body.low_water:
        for _ in range(200):
            body.came(1460, after=0.0001)
        assert body.mark == 1, "nobody knows yet how fast it comes"
        for _ in range(2000):
            body.came(1460, after=0.0001)
        assert body.mark == WORTH_WHILE


async def test_what_comes_slowly_waits_no_longer_than_it_would_take_to_come(
    line: socket.socket,
) -> None:
    body = Body(line, 100 * MEBI)
    with body.low_water:
        for _ in range(20):
            body.came(200, after=1.0)
        assert body.mark <= 200 * PATIENCE


async def test_an_answer_without_a_length_is_read_as_it_comes(line: socket.socket) -> None:
    body = Body(line, None)
    with body.low_water:
        for _ in range(2000):
            body.came(1460, after=0.0001)
        assert body.mark == 1


@given(
    length=st.integers(0, MEBI),
    pieces=st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 2)), max_size=50),
)
def test_never_more_is_waited_for_than_is_left(
    length: int, pieces: list[tuple[int, float]]
) -> None:
    async def read() -> None:
        with socket.socket(socket.AF_INET) as line:
            body, left = Body(line, length), length
            with body.low_water:
                for size, after in pieces:
                    left = max(0, left - size)
                    body.came(size, after)
                    assert body.mark <= max(1, left)

    asyncio.run(read())


async def test_a_network_that_slows_down_still_brings_all_that_came() -> None:
    """The rest of the fast part is less than the mark, and the last bytes wait for its reader."""
    fast, last = 2 * MEBI + 77, b"at last"
    all_of_it = asyncio.Event()

    async def slowing(request: Request, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {2 * fast + len(last)}\r\n\r\n"
        writer.write(head.encode())
        for _ in range(40):
            writer.write(bytes(fast // 40))
            await writer.drain()
            await asyncio.sleep(PATIENCE / 10)  # as a network would, over some rounds of the mark
        writer.write(bytes(fast % 40))
        await all_of_it.wait()
        writer.write(bytes(fast) + last)

    received = 0
    async with rough_server(slowing) as server:
        web = Web(server.url, (), Timeouts(connect=60, stalled=60))
        async with web.ask(server.url, {}) as answer:
            transfer = await web.transfer(answer, server.url, 0, "server")
            async for chunk in transfer.chunks:
                received += len(chunk)
                if received >= fast:
                    all_of_it.set()
        await web.close()
    assert received == 2 * fast + len(last)
