"""The laws of the Prober protocol: a real server in each state that a controller may be in, and the
fake."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgevirt.host.fakes.prober import FakeProber
from edgevirt.host.net.probe import PING, Finding, HttpsProber, Prober, split
from edgevirt.model.ports import Reach
from tests.parts.authority import Authority, make_authority

pytestmark = pytest.mark.root  # an interface is chosen

TIMEOUT = 0.5


@dataclass(frozen=True)
class Answer:
    """What a server says; `tls` None: in the clear. `address`: where it listens."""

    said: bytes | None = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    own: str = "good"
    tls: bool = True
    address: str = "127.0.0.1"
    listens: bool = True


STATES = {
    Reach.OK: Answer(),
    Reach.UNAVAILABLE: Answer(b"HTTP/1.1 503 Busy\r\n\r\n"),
    Reach.REFUSES: Answer(b"HTTP/1.1 401 No\r\n\r\n"),
    Reach.NO_ROUTE: Answer(None),
    Reach.NO_TLS: Answer(tls=False),
    Reach.REFUSED: Answer(listens=False),
    Reach.WRONG_ROOT: Answer(own="other"),
    Reach.WRONG_SERVER: Answer(address="127.0.0.2"),
    Reach.CERTIFICATE_TIME: Answer(own="old"),
}


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    def make(name: str, age: int = 1) -> Authority:
        return make_authority(tmp_path_factory.mktemp(name), age=age)

    good, old = make("good"), make("old", age=100)
    return {"good": good, "other": make("other"), "old": old}


@contextlib.asynccontextmanager
async def controller(answer: Answer, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Its port. Requests that are no ping get what nobody expects."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            if tls is None:
                writer.write(b"220 mail.example\r\n")
            asked = await reader.readuntil(b"\r\n\r\n")
            if answer.said is not None:
                expected = asked.startswith(f"GET {PING} HTTP/1.1\r\n".encode())
                writer.write(answer.said if expected else b"HTTP/1.1 418 Teapot\r\n\r\n")
                await writer.drain()
                writer.close()

    server = await asyncio.start_server(serve, answer.address, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    if not answer.listens:
        server.close()
        await server.wait_closed()
    try:
        yield port
    finally:
        server.close()


async def ask(real: bool, reach: Reach, authorities: dict[str, Authority]) -> Finding:
    answer = STATES[reach]
    own = authorities[answer.own]
    async with controller(answer, own.context() if answer.tls else None) as port:
        prober: Prober
        if real:
            root = own if answer.own == "old" else authorities["good"]
            prober = HttpsProber(f"{answer.address}:{port}", [root.ca, Path("/none")])
        else:
            why = "" if reach is Reach.OK else "it cannot be reached"
            prober = FakeProber(lambda interface, dns: Finding(reach, why))
        return await prober.ping("lo", (), TIMEOUT)


@pytest.mark.parametrize("real", [False, True], ids=["fake", "real"])
@pytest.mark.parametrize("reach", STATES, ids=lambda reach: reach.value)
async def test_each_state_of_a_controller_is_told_from_the_others(
    real: bool, reach: Reach, authorities: dict[str, Authority]
) -> None:
    finding = await ask(real, reach, authorities)
    assert finding.reach is reach
    assert bool(finding.why) is (reach is not Reach.OK)


@pytest.mark.parametrize(
    ("reach", "words"),
    [
        (Reach.WRONG_ROOT, "does not lead to this node's root certificate (certificate verify"),
        (Reach.WRONG_SERVER, "has a certificate for another name (certificate verify failed"),
        (Reach.CERTIFICATE_TIME, "is not valid at 20"),
        (Reach.REFUSED, "refuses connections"),
        (Reach.UNAVAILABLE, "answers 503 to a ping"),
        (Reach.NO_ROUTE, "silent"),
    ],
)
async def test_what_stands_in_the_way_is_said_in_words(
    reach: Reach, words: str, authorities: dict[str, Authority]
) -> None:
    finding = await ask(True, reach, authorities)
    assert words in finding.why


@pytest.mark.parametrize("said", [b"", b"\x00" * 2000, b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n"])
async def test_nonsense_is_no_controller(said: bytes, authorities: dict[str, Authority]) -> None:
    own = authorities["good"]
    async with controller(Answer(said), own.context()) as port:
        finding = await HttpsProber(f"127.0.0.1:{port}", [own.ca]).ping("lo", (), TIMEOUT)
    assert finding.reach is Reach.REFUSES


async def test_a_name_without_a_server_to_ask_is_told() -> None:
    finding = await HttpsProber("controller.invalid", []).ping("lo", (), TIMEOUT)
    assert finding.reach is Reach.NO_DNS
    assert "controller.invalid cannot be looked up: the port has no DNS server" in finding.why


async def test_a_root_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "root.pem"
    broken.write_text("nonsense")
    finding = await HttpsProber("127.0.0.1:1", [broken]).ping("lo", (), TIMEOUT)
    assert finding.reach is Reach.WRONG_ROOT
    assert "the root certificate cannot be read" in finding.why


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ("controller.example", ("controller.example", 443)),
        (" controller.example:8443\n", ("controller.example", 8443)),
        ("192.0.2.1", ("192.0.2.1", 443)),
        ("192.0.2.1:8443", ("192.0.2.1", 8443)),
        ("2001:db8::1", ("2001:db8::1", 443)),
        ("[2001:db8::1]:8443", ("2001:db8::1", 8443)),
        ("controller.example:0", ("controller.example:0", 443)),
        ("", ("", 443)),
    ],
)
def test_the_server_s_port_is_found_where_there_is_one(server: str, found: tuple[str, int]) -> None:
    assert split(server) == found
