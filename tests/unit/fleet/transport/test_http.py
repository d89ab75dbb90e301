"""The nodes' transport: what a peer may send, how long it may take, and in which order it hears."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from edgevirt.fleet.keys import KeyRing, Role
from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.http import HttpServer
from edgevirt.fleet.transport.incoming import Limits
from edgevirt.fleet.transport.replies import AfterCommit, Reply, Request, Response
from edgevirt.fleet.transport.tls import make_tls_context
from edgevirt.runtime import RealClock, VirtualClock

LIMITS = Limits(header_bytes=2_000, pipelined=4, connections=8, buffered_bytes=20_000)


class Echo:
    """An application that answers by path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes, bytes]] = []
        self.commits: list[asyncio.Future[None]] = []

    def body_limit(self, path: bytes) -> int:
        return 10_000

    def handle_all(self, asked: Sequence[Request]) -> list[Reply]:
        return [self.handle(*request) for request in asked]

    def handle(self, method: bytes, path: bytes, body: bytes) -> Reply:
        self.asked.append((method, path, body))
        if path == b"/durable":
            commit = asyncio.get_running_loop().create_future()
            self.commits.append(commit)
            return AfterCommit(commit, replies.CREATED)
        if path == b"/later":
            return self.later(body)
        if path == b"/bug":
            raise ZeroDivisionError("a bug")
        return Response(HTTPStatus.OK, b"<" + body + b">") if body else replies.OK

    async def later(self, body: bytes) -> Response:
        await asyncio.sleep(0)
        if body == b"bug":
            raise ZeroDivisionError("a later bug")
        return Response(HTTPStatus.OK, b"later")


class Peer:
    """A client that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, text: bytes) -> None:
        self.writer.write(text)

    async def hear(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        return status, await self.reader.readexactly(length)

    async def hear_the_end(self) -> None:
        assert await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


Connect = Callable[[], Awaitable[Peer]]


@asynccontextmanager
async def serving(
    application: Echo, clock: VirtualClock, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(application, clock, LIMITS)
    port = await server.listen("127.0.0.1", 0, tls)
    watching = asyncio.create_task(server.run())
    try:
        yield server, port
    finally:
        watching.cancel()
        await server.close(0)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def server(echo: Echo, clock: VirtualClock) -> AsyncIterator[tuple[HttpServer, int]]:
    async with serving(echo, clock) as running:
        yield running


@pytest.fixture
async def connect(server: tuple[HttpServer, int]) -> AsyncIterator[Connect]:
    peers: list[Peer] = []

    async def dial() -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", server[1])))
        return peers[-1]

    yield dial
    for peer in peers:
        await peer.close()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_one_connection_serves_many_requests(connect: Connect, echo: Echo) -> None:
    peer = await connect()
    for number in range(3):
        peer.say(post("/x", b"%d" % number))
        assert await peer.hear() == (200, b"<%d>" % number)
    assert echo.asked[2] == (b"POST", b"/x", b"2")


async def test_who_asks_to_close_is_closed(connect: Connect) -> None:
    peer = await connect()
    peer.say(post("/x", b"a", "Connection: close"))
    assert await peer.hear() == (200, b"<a>")
    await peer.hear_the_end()


async def test_http_1_0_is_answered_and_closed(connect: Connect) -> None:
    peer = await connect()
    peer.say(b"GET /x HTTP/1.0\r\n\r\n")
    assert await peer.hear() == (200, b"")
    await peer.hear_the_end()


async def test_pipelined_requests_are_answered_in_order(connect: Connect, echo: Echo) -> None:
    peer = await connect()
    peer.say(post("/durable", b"1") + post("/x", b"2") + post("/later", b"3"))
    await until(lambda: len(echo.commits) == 1)
    await asyncio.sleep(0.01)
    assert len(echo.asked) == 1, "the second must wait for the first"
    echo.commits[0].set_result(None)
    assert await peer.hear() == (201, b"")
    assert await peer.hear() == (200, b"<2>")
    assert await peer.hear() == (200, b"later")


async def test_a_flood_of_pipelined_requests_is_cut_off(connect: Connect, echo: Echo) -> None:
    peer = await connect()
    peer.say(post("/durable", b"1") * 40)
    for _ in range(LIMITS.pipelined):
        await until(lambda: bool(echo.commits))
        echo.commits.pop().set_result(None)
        assert (await peer.hear())[0] == 201
    assert (await peer.hear())[0] == 503
    assert len(echo.asked) == LIMITS.pipelined


async def test_nothing_is_acknowledged_before_it_is_durable(connect: Connect, echo: Echo) -> None:
    peer = await connect()
    peer.say(post("/durable", b"x"))
    await until(lambda: bool(echo.commits))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(peer.reader.read(1), 0.05)
    echo.commits[0].set_exception(OSError("disk full"))
    assert await peer.hear() == (503, b"")
    peer.say(post("/x", b"again"))
    assert await peer.hear() == (200, b"<again>")


async def test_a_chunked_body_arrives_whole(connect: Connect) -> None:
    peer = await connect()
    peer.say(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.sleep(0.01)
    peer.say(b"2\r\nde\r\n0\r\n\r\n")
    assert await peer.hear() == (200, b"<abcde>")


async def test_a_body_in_single_bytes_arrives_whole(connect: Connect) -> None:
    peer = await connect()
    for byte in post("/x", b"hello"):
        peer.say(bytes((byte,)))
        await peer.writer.drain()
        await asyncio.sleep(0)
    assert await peer.hear() == (200, b"<hello>")


async def test_expect_continue_is_told_to_go_on(connect: Connect) -> None:
    peer = await connect()
    peer.say(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.say(b"ok")
    assert await peer.hear() == (200, b"<ok>")


async def test_an_offer_to_upgrade_is_passed_over(connect: Connect) -> None:
    peer = await connect()
    peer.say(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert await peer.hear() == (200, b"")
    await peer.hear_the_end()


async def test_a_body_after_an_offer_to_upgrade_is_refused_not_lost(
    connect: Connect, echo: Echo
) -> None:
    peer = await connect()
    peer.say(post("/x", b"a", "Connection: Upgrade", "Upgrade: h2c"))
    assert await peer.hear() == (501, b"")
    assert echo.asked == []


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(post("/x", b"y" * 10_001), id="announced"),
        pytest.param(
            b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1000\r\n" + b"y" * 4096 + b"\r\n" + b"1000\r\n" + b"y" * 4096 + b"\r\n"
            + b"1000\r\n" + b"y" * 4096 + b"\r\n0\r\n\r\n",
            id="chunked",
        ),
    ],
)  # fmt: skip
async def test_a_body_beyond_the_limit_is_refused(
    connect: Connect, echo: Echo, request_: bytes
) -> None:
    peer = await connect()
    peer.say(request_)
    assert await peer.hear() == (413, b"")
    assert echo.asked == []


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(["X: " + "y" * 3_000], id="long"),
        pytest.param([f"X-{number}: y" for number in range(300)], id="many"),
    ],
)
async def test_headers_beyond_the_limit_are_refused(
    connect: Connect, echo: Echo, headers: list[str], pieces: int
) -> None:
    peer = await connect()
    request = post("/x", b"", *headers)
    size = -(-len(request) // pieces)
    for start in range(0, len(request), size):
        peer.say(request[start : start + size])
        await peer.writer.drain()
        await asyncio.sleep(0.005)
    assert await peer.hear() == (431, b"")
    assert echo.asked == []


async def test_a_long_body_is_not_mistaken_for_headers(connect: Connect) -> None:
    peer = await connect()
    peer.say(post("/x", b"y" * 4_000)[:-1_500])
    await asyncio.sleep(0.01)
    peer.say(b"y" * 1_500 + post("/x", b"z" * 9_000) + b"POST /x HTTP/1.1\r\n")
    assert await peer.hear() == (200, b"<" + b"y" * 4_000 + b">")
    assert await peer.hear() == (200, b"<" + b"z" * 9_000 + b">")
    peer.say(b"Host: x\r\nContent-Length: 1\r\n\r\n!")
    assert await peer.hear() == (200, b"<!>")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_garbage_is_a_bad_request_and_the_end(
    connect: Connect, echo: Echo, garbage: bytes
) -> None:
    peer = await connect()
    peer.say(garbage)
    assert (await peer.hear())[0] == 400
    assert echo.asked == []


async def test_all_bodies_together_have_a_bound(connect: Connect) -> None:
    half = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b"y" * 8_999
    first, second, third = [await connect() for _ in range(3)]
    first.say(half)
    second.say(half)
    await asyncio.sleep(0.05)
    third.say(half)
    assert await third.hear() == (503, b"")
    first.say(b"y")
    assert (await first.hear())[0] == 200


async def test_bodies_of_lost_peers_no_longer_count(
    connect: Connect, server: tuple[HttpServer, int]
) -> None:
    for _ in range(4):
        peer = await connect()
        peer.say(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b"y" * 8_999)
        await until(lambda: server[0].intake.buffered > 0)
        await peer.close()
        await until(lambda: server[0].intake.buffered == 0)


async def test_slow_headers_end_the_connection(
    connect: Connect, clock: VirtualClock, server: tuple[HttpServer, int]
) -> None:
    peer = await connect()
    peer.say(b"POST /x HTTP/1.1\r\n")
    await until(lambda: len(server[0].connections) == 1)
    for number in range(12):
        peer.say(b"X-%d: slow\r\n" % number)
        await asyncio.sleep(0.002)
        await clock.advance(1)
    await peer.hear_the_end()


async def test_a_slow_body_ends_the_connection(
    connect: Connect, clock: VirtualClock, server: tuple[HttpServer, int]
) -> None:
    peer = await connect()
    peer.say(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\ny")
    await until(lambda: server[0].intake.buffered > 0)
    await clock.advance(LIMITS.body_seconds + 2)
    await peer.hear_the_end()
    assert server[0].intake.buffered == 0


async def test_an_idle_connection_is_kept_for_the_next_poll_but_not_forever(
    connect: Connect, clock: VirtualClock
) -> None:
    peer = await connect()
    peer.say(post("/x", b"a"))
    assert (await peer.hear())[0] == 200
    await clock.advance(120)
    peer.say(post("/x", b"b"))
    assert await peer.hear() == (200, b"<b>")
    await clock.advance(LIMITS.idle_seconds + 2)
    await peer.hear_the_end()


async def test_waiting_for_the_disk_is_not_the_peers_fault(
    connect: Connect, echo: Echo, clock: VirtualClock
) -> None:
    peer = await connect()
    peer.say(post("/durable", b"x"))
    await until(lambda: bool(echo.commits))
    await clock.advance(1_000)
    echo.commits[0].set_result(None)
    assert await peer.hear() == (201, b"")


async def test_connections_beyond_the_limit_are_turned_away(
    connect: Connect, server: tuple[HttpServer, int]
) -> None:
    peers = [await connect() for _ in range(LIMITS.connections)]
    await until(lambda: len(server[0].connections) == LIMITS.connections)
    late = await connect()
    late.say(post("/x", b"a"))
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await late.hear()
    peers[0].say(post("/x", b"a"))
    assert (await peers[0].hear())[0] == 200


@pytest.mark.parametrize("request_", [post("/bug", b"x"), post("/later", b"bug")])
async def test_a_bug_costs_one_request_and_no_more(
    connect: Connect, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await connect()
    peer.say(request_ + post("/x", b"a"))
    assert await peer.hear() == (500, b"")
    assert await peer.hear() == (200, b"<a>")
    assert "a bug" in caplog.text


async def test_closing_answers_what_is_under_way(
    connect: Connect, echo: Echo, server: tuple[HttpServer, int]
) -> None:
    idle, busy = await connect(), await connect()
    busy.say(post("/durable", b"x"))
    await until(lambda: bool(echo.commits) and len(server[0].connections) == 2)
    closing = asyncio.create_task(server[0].close())
    await idle.hear_the_end()
    assert not closing.done()
    echo.commits[0].set_result(None)
    assert await busy.hear() == (201, b"")
    await busy.hear_the_end()
    await closing


async def test_a_peer_that_went_away_harms_nobody(
    connect: Connect, echo: Echo, server: tuple[HttpServer, int]
) -> None:
    peer = await connect()
    peer.say(post("/durable", b"x"))
    await until(lambda: bool(echo.commits))
    await peer.close()
    await until(lambda: not server[0].connections)
    echo.commits[0].set_result(None)
    other = await connect()
    other.say(post("/x", b"a"))
    assert (await other.hear())[0] == 200


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (ssl.TLSVersion.TLSv1_3, None),
    ],
)
async def test_nodes_get_through_with_the_tls_that_they_have(
    tmp_path: Path, echo: Echo, clock: VirtualClock, version: ssl.TLSVersion, cipher: str | None
) -> None:
    ring = KeyRing(tmp_path / "keys", ["localhost"], RealClock())
    async with serving(echo, clock, make_tls_context(ring.tls_file)) as (_, port):
        context = ssl.create_default_context(cafile=str(ring.root_file))
        context.maximum_version = version
        if cipher:
            context.set_ciphers(cipher)
        peer = Peer(*await asyncio.open_connection("localhost", port, ssl=context))
        peer.say(post("/x", b"secret"))
        assert await peer.hear() == (200, b"<secret>")
        await peer.close()


async def test_older_tls_is_refused(tmp_path: Path, echo: Echo, clock: VirtualClock) -> None:
    ring = KeyRing(tmp_path / "keys", ["localhost"], RealClock())
    async with serving(echo, clock, make_tls_context(ring.tls_file)) as (_, port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ring.root_file)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("localhost", port, ssl=context)


async def test_a_rotated_tls_certificate_serves_the_next_connection(
    tmp_path: Path, echo: Echo, clock: VirtualClock
) -> None:
    ring = KeyRing(tmp_path / "keys", ["localhost"], RealClock())
    served = make_tls_context(ring.tls_file)
    async with serving(echo, clock, served) as (_, port):
        trusting = ssl.create_default_context(cafile=str(ring.root_file))
        seen = []
        for _ in range(2):
            peer = Peer(*await asyncio.open_connection("localhost", port, ssl=trusting))
            peer.say(post("/x", b"a"))
            assert (await peer.hear())[0] == 200
            seen.append(peer.writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            await peer.close()
            ring.rotate(Role.TLS)
            served.load_cert_chain(ring.tls_file)
        assert seen[0] != seen[1]
