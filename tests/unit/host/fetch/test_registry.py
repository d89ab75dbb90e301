"""References, addresses and challenges of registries."""

from __future__ import annotations

import asyncio
import json

import pytest

from edgevirt.host.fetch import Access, CannotFetch, Timeouts, Wanted, open_source
from edgevirt.host.fetch.registry import Reference, parse_reference, registry_url
from edgevirt.model.content import Datastore, DatastoreType
from edgevirt.model.ids import DatastoreId, Digest
from tests.parts.rough_server import Request, answer, rough_server

DIGEST = Digest("sha256:" + "ab" * 32)
PATIENT = Timeouts(connect=60, stalled=60)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("nginx", Reference("nginx")),
        ("library/nginx:1.25", Reference("library/nginx", "1.25")),
        (f"a/b-c__d@{DIGEST}", Reference("a/b-c__d", "latest", DIGEST)),
        (f"a:t@{DIGEST}", Reference("a", "t", DIGEST)),
    ],
)
def test_a_reference_is_read_as_it_is_meant(text: str, meant: Reference) -> None:
    assert parse_reference(text) == meant


@pytest.mark.parametrize(
    "text", ["", "Upper", "a b", "../x", "a//b", "a:", "a:b:c", "a@sha256:12", "a?x=1", "a:t/../.."]
)
def test_a_reference_that_could_mean_another_path_is_refused(text: str) -> None:
    with pytest.raises(CannotFetch, match=r"not REPOSITORY\[:TAG\]"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("fqdn", "url"),
    [
        ("docker://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("docker://localhost", "http://localhost"),
        ("oci://192.168.1.9:5000/", "http://192.168.1.9:5000"),
        ("docker://10.0.0.1", "http://10.0.0.1"),
        ("docker://172.31.0.1", "http://172.31.0.1"),
        ("docker://[::1]:5000", "http://[::1]:5000"),
        ("docker://depot.local", "http://depot.local"),
        ("docker://172.32.0.1", "https://172.32.0.1"),
        ("docker://8.8.8.8", "https://8.8.8.8"),
        ("docker://localhost.example.com", "https://localhost.example.com"),
        ("ghcr.io", "https://ghcr.io"),
        ("docker://docker.io", "https://registry-1.docker.io"),
    ],
)
def test_only_a_near_registry_is_spoken_to_in_clear_text(fqdn: str, url: str) -> None:
    assert registry_url(fqdn) == url


def test_a_near_registry_with_a_ca_is_spoken_to_over_tls() -> None:
    assert registry_url("docker://10.0.0.1:5000", has_ca=True) == "https://10.0.0.1:5000"


@pytest.mark.parametrize(
    "fqdn", ["https://ghcr.io", "docker://", "docker://a/b", "ftp://a", "docker://[::1"]
)
def test_what_is_no_registry_is_refused(fqdn: str) -> None:
    with pytest.raises(CannotFetch, match="cannot fetch from"):
        registry_url(fqdn)


def access(host: str, user: str = "", password: str = "") -> Access:
    store = Datastore(
        id=DatastoreId("d"), type=DatastoreType.CONTAINER_REGISTRY, fqdn=f"docker://{host}"
    )
    return Access(store, user, password)


async def pull(where: Access) -> bytes:
    source = open_source(where, PATIENT)
    try:
        async with source.open(Wanted("app:1", DIGEST), 0) as transfer:
            return b"".join([chunk async for chunk in transfer.chunks])
    finally:
        await source.close()


async def test_a_refusal_without_a_challenge_is_final() -> None:
    async def closed(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 401, b"go away")

    async with rough_server(closed) as server:
        with pytest.raises(CannotFetch, match="registry answered 401: go away"):
            await pull(access(server.host, "ali", "sesame"))
        assert len(server.requests) == 1


async def test_credentials_are_not_sent_until_the_registry_asks() -> None:
    async def open_door(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, b"blob")

    async with rough_server(open_door) as server:
        assert await pull(access(server.host, "ali", "sesame")) == b"blob"
        assert "authorization" not in server.requests[0].headers


async def test_a_token_realm_in_clear_text_gets_no_credentials_from_a_tls_registry() -> None:
    from edgevirt.host.fetch.registry import Registry

    registry = Registry(access("registry.example.com", "ali", "sesame"), PATIENT)
    with pytest.raises(CannotFetch, match="its token realm is"):
        await registry._token({"realm": "http://127.0.0.1/token"}, "app")


async def test_an_expired_token_is_asked_for_anew() -> None:
    tokens = iter(["first", "second"])
    good = {"Bearer first"}

    async def registry(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.startswith("/token"):
            answer(writer, 200, json.dumps({"access_token": next(tokens)}).encode())
        elif request.headers.get("authorization") in good:
            answer(writer, 200, b"blob")
        else:
            realm = f'Bearer realm="{url}/token?a=1",service="s"'
            answer(writer, 401, b"", www_authenticate=realm)

    async with rough_server(registry) as server:
        url = server.url
        source = open_source(access(server.host), PATIENT)
        for _ in range(2):
            async with source.open(Wanted("app", DIGEST), 0) as transfer:
                assert [chunk async for chunk in transfer.chunks] == [b"blob"]
            good.clear()
            good.add("Bearer second")
        await source.close()
        paths = [request.path for request in server.requests if "token" in request.path]
        assert paths == ["/token?a=1&scope=repository%3Aapp%3Apull&service=s"] * 2


@pytest.mark.parametrize("body", [b"{}", b"nonsense", b'{"token": "a\\nb"}', b"\xff"])
async def test_a_token_server_that_gives_no_token_is_said_to(body: bytes) -> None:
    async def broken(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path.startswith("/token"):
            answer(writer, 200, body)
        else:
            answer(writer, 401, b"", www_authenticate=f'Bearer realm="{url}/token"')

    async with rough_server(broken) as server:
        url = server.url
        with pytest.raises(CannotFetch, match="cannot fetch a token"):
            await pull(access(server.host))


async def test_a_registry_that_tells_no_digest_of_a_tag_is_asked_for_the_manifest() -> None:
    async def plain(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, b"" if request.method == "HEAD" else b"{}", content_length="2")

    async with rough_server(plain) as server:
        source = open_source(access(server.host), PATIENT)
        resolved = await source.resolve("app:1")
        await source.close()
    assert resolved == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
