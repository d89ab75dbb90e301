"""Servers that cut, stall, lie, and redirect credentials away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edgevirt.host.fetch.source import CannotFetch, Timeouts, Transfer
from edgevirt.host.fetch.web import MAX_ANSWER, Web, range_from, shown
from tests.parts.authority import make_authority
from tests.parts.rough_server import Request, answer, rough_server

PATIENT = Timeouts(connect=60, stalled=60)
QUICK = Timeouts(connect=60, stalled=0.2)
SECRET = {"Authorization": "Basic c2VjcmV0"}


async def get(url: str, offset: int = 0, web: Web | None = None) -> tuple[Transfer, bytes]:
    web = web or Web(url, (), PATIENT)
    try:
        async with web.ask(url, {**SECRET, **range_from(offset)}) as reply:
            transfer = await web.transfer(reply, url, offset, "server")
            return transfer, b"".join([chunk async for chunk in transfer.chunks])
    finally:
        await web.close()


async def test_a_server_that_goes_silent_ends_the_transfer_in_time() -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, b"begin", content_length="1000")
        await asyncio.sleep(3600)

    async with rough_server(silent) as server:
        with pytest.raises(CannotFetch, match="stalled: no byte came in time"):
            await get(server.url, web=Web(server.url, (), QUICK))


async def test_a_server_that_never_answers_ends_the_transfer_in_time() -> None:
    async def mute(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with rough_server(mute) as server:
        with pytest.raises(CannotFetch, match="stalled"):
            await get(server.url, web=Web(server.url, (), QUICK))


async def test_a_server_that_dies_half_way_is_no_complete_answer() -> None:
    async def dying(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, b"begin", content_length="1000")

    async with rough_server(dying) as server:
        with pytest.raises(CannotFetch, match="without sending complete"):
            await get(server.url)


async def test_a_server_that_ignores_the_range_is_heard_from_the_start() -> None:
    async def whole(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, b"0123456789")

    async with rough_server(whole) as server:
        transfer, data = await get(server.url, offset=4)
    assert (transfer.offset, data) == (0, b"0123456789")


@pytest.mark.parametrize("extent", ["bytes 6-9/10", "bytes */10", "", "lines 4-9/10"])
async def test_a_part_that_leaves_a_gap_or_says_not_where_it_begins_is_refused(
    extent: str,
) -> None:
    async def gap(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 206, b"6789", content_range=extent)

    async with rough_server(gap) as server:
        with pytest.raises(CannotFetch, match=r"asked from byte 4|readable Content-Range"):
            await get(server.url, offset=4)


async def test_credentials_never_follow_a_redirect_to_another_host() -> None:
    async def storage(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, b"blob")

    async with rough_server(storage) as other:

        async def redirecting(request: Request, writer: asyncio.StreamWriter) -> None:
            answer(writer, 307, location=f"{other.url}/signed?x=1")

        async with rough_server(redirecting) as server:
            _, data = await get(server.url)
            assert data == b"blob"
            assert server.requests[0].headers["authorization"] == SECRET["Authorization"]
        assert other.requests[0].path == "/signed?x=1"
        assert "authorization" not in other.requests[0].headers


async def test_credentials_follow_a_redirect_within_the_host() -> None:
    async def moving(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/":
            answer(writer, 302, location="/there")
        else:
            answer(writer, 200, request.headers.get("authorization", "").encode())

    async with rough_server(moving) as server:
        assert (await get(server.url))[1] == SECRET["Authorization"].encode()


async def test_a_redirect_without_end_is_given_up() -> None:
    async def round_and_round(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 302, location=request.path + "x")

    async with rough_server(round_and_round) as server:
        with pytest.raises(CannotFetch, match="more than 5 redirects"):
            await get(server.url)
        assert len(server.requests) == 6


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "file:///etc/passwd"])
async def test_a_redirect_from_tls_to_clear_text_is_refused(tmp_path: Path, target: str) -> None:
    authority = make_authority(tmp_path)

    async def leaking(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 302, location=target)

    async with rough_server(leaking, authority.context()) as server:
        web = Web(server.url, (authority.ca_pem,), PATIENT)
        with pytest.raises(CannotFetch, match="redirected from TLS to"):
            await get(server.url, web=web)


async def test_a_server_without_a_certificate_of_the_datastore_is_not_believed(
    tmp_path: Path,
) -> None:
    async def never(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200)

    async with rough_server(never, make_authority(tmp_path).context()) as server:
        with pytest.raises(CannotFetch, match="CERTIFICATE_VERIFY_FAILED"):
            await get(server.url)
        assert server.requests == []


async def test_a_ca_that_is_no_certificate_is_said_to_be_wrong() -> None:
    with pytest.raises(CannotFetch, match="a CA of the datastore"):
        await get("https://127.0.0.1:1", web=Web("https://127.0.0.1:1", ("nonsense",), PATIENT))


async def test_an_endless_answer_is_cut_at_its_bound() -> None:
    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, content_length=str(1 << 40))
        while not writer.is_closing():
            writer.write(bytes(65536))
            await writer.drain()

    async with rough_server(endless) as server:
        web = Web(server.url, (), PATIENT)
        async with web.ask(server.url, {}) as reply:
            with pytest.raises(CannotFetch, match=f"more than {MAX_ANSWER} bytes"):
                await web.body(reply, server.url)
        await web.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1", "http://a b/"])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CannotFetch):
        await get(url)


async def test_the_signature_in_a_redirect_s_url_is_never_told() -> None:
    async def storage(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 403, b"expired")

    async with rough_server(storage) as other:

        async def redirecting(request: Request, writer: asyncio.StreamWriter) -> None:
            answer(writer, 307, location=f"{other.url}/blob?signature=sesame")

        async with rough_server(redirecting) as server:
            with pytest.raises(CannotFetch, match="answered 403: expired") as refusal:
                await get(server.url)
    assert "sesame" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://a:b@host:1/p?q=1", "https://host:1/p"),
        ("https://host?q=a@b/c", "https://host"),
        ("host/p", "host/p"),
    ],
)
def test_a_url_is_told_without_its_secrets(url: str, told: str) -> None:
    assert shown(url) == told
