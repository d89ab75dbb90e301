"""What every datastore must do, on real servers: Debian's docker-registry, and files over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from msgspec import structs
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from edgevirt.host.fetch import Access, BeyondEnd, CannotFetch, Timeouts, Wanted, open_source
from edgevirt.image.eci.oci import Image, Pusher, make_image, pack_layer
from edgevirt.model.content import Datastore, DatastoreType, ImageConfig
from edgevirt.model.ids import DatastoreId, Digest
from tests.parts.authority import make_authority
from tests.parts.docker_registry import PASSWORD, USER, docker_registry, token_server
from tests.parts.loopback import free_port

CONTENT = bytes(range(256)) * 5000
"""What an HTTP datastore serves. A registry serves a layer."""
TIMEOUTS = Timeouts(connect=60, stalled=60)


@dataclass(frozen=True)
class Store:
    """A datastore that runs, and one blob in it."""

    access: Access
    blob: Wanted
    content: bytes
    tag: str = ""
    tagged: Digest | None = None


def image_in(where: Path) -> Image:
    (where / "root").mkdir(parents=True)
    (where / "root/data").write_bytes(hashlib.sha256(b"x").digest() * 40_000)
    return make_image([pack_layer(where / "root", where / "layer")], ImageConfig(cmd=("/data",)))


@asynccontextmanager
async def registry(where: Path, kind: str) -> AsyncIterator[Store]:
    authority = make_authority(where)
    ca_pem = (authority.ca_pem,) if kind == "tls" else ()
    image = image_in(where)
    async with AsyncExitStack() as stack:
        tokens = ""
        if kind == "token":
            tokens = (await stack.enter_async_context(token_server(authority))).url
        starting = docker_registry(
            where / "registry",
            basic=kind == "basic",
            token_server=tokens,
            tls=authority if kind in {"tls", "token"} else None,
        )
        host = (await asyncio.to_thread(stack.enter_context, starting)).host
        user, password = (USER, PASSWORD) if kind in {"basic", "token"} else ("", "")
        pusher = Pusher(host, user, password, ca_pem)
        stack.push_async_callback(pusher.close)
        tagged = await pusher.push(image, "apps/hello:1.0")
        store = Datastore(
            id=DatastoreId("d"),
            type=DatastoreType.CONTAINER_REGISTRY,
            fqdn=f"docker://{host}",
            dpath="apps",
            ca_pem=ca_pem,
        )
        layer = image.layers[0]
        blob = Wanted("hello:1.0", layer.digest)
        yield Store(
            Access(store, user, password),
            blob,
            layer.path.read_bytes(),
            tag="hello:1.0",
            tagged=tagged,
        )


@asynccontextmanager
async def files(where: Path, kind: str) -> AsyncIterator[Store]:
    """`dpath` is a folder of the server."""
    authority = make_authority(where)
    secure, guarded = "https" in kind, "guarded" in kind
    (where / "files/disks").mkdir(parents=True)
    (where / "files/disks/a disk+1.raw").write_bytes(CONTENT)
    app = Starlette(middleware=[Middleware(Guard)] if guarded else [])
    app.mount("/", StaticFiles(directory=where / "files"))
    port = free_port()
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="critical",
        lifespan="off",
        ssl_certfile=authority.certificate if secure else None,
        ssl_keyfile=authority.key if secure else None,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    scheme = "https" if secure else "http"
    store = Datastore(
        id=DatastoreId("d"),
        type=DatastoreType.HTTPS if secure else DatastoreType.HTTP,
        fqdn=f"{scheme}://127.0.0.1:{port}",
        dpath="/disks",
        ca_pem=(authority.ca_pem,) if secure else (),
    )
    digest = Digest(f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    user, password = ("Bearer", PASSWORD) if guarded else ("", "")
    access = Access(store, user, password, insecure_auth=not secure)
    try:
        yield Store(access, Wanted("a disk+1.raw", digest), CONTENT)
    finally:
        server.should_exit = True
        await serving


class Server(uvicorn.Server):
    """Leaves the process's signals alone: a test's loop has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Guard:
    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, object], *rest: object) -> None:
        wanted = f"Bearer {PASSWORD}"
        refuse: Response = PlainTextResponse("not for you", 401)
        welcome = Request(scope).headers.get("authorization") == wanted
        await (self._app if welcome else refuse)(scope, *rest)  # type: ignore[arg-type]


KINDS = {
    "registry": lambda where: registry(where, "plain"),
    "registry-basic": lambda where: registry(where, "basic"),
    "registry-token": lambda where: registry(where, "token"),
    "registry-tls": lambda where: registry(where, "tls"),
    "http": lambda where: files(where, "http"),
    "http-guarded": lambda where: files(where, "http-guarded"),
    "https-guarded": lambda where: files(where, "https-guarded"),
}


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with KINDS[request.param](tmp_path) as running:
        yield running


async def fetch(access: Access, wanted: Wanted, offset: int = 0) -> tuple[int, int | None, bytes]:
    """(offset, size, bytes from there)."""
    source = open_source(access, TIMEOUTS)
    try:
        async with source.open(wanted, offset) as transfer:
            data = b"".join([chunk async for chunk in transfer.chunks])
            return transfer.offset, transfer.size, data
    finally:
        await source.close()


async def test_a_blob_comes_whole_and_its_size_is_known_before(store: Store) -> None:
    assert await fetch(store.access, store.blob) == (0, len(store.content), store.content)


@pytest.mark.parametrize("left", [1, 1000])
async def test_a_transfer_goes_on_where_another_broke_off(store: Store, left: int) -> None:
    at = len(store.content) - left
    assert await fetch(store.access, store.blob, at) == (
        at,
        len(store.content),
        store.content[at:],
    )


async def test_one_source_serves_several_blobs_at_once(store: Store) -> None:
    source = open_source(store.access, TIMEOUTS)

    async def one() -> bytes:
        async with source.open(store.blob, 0) as transfer:
            return b"".join([chunk async for chunk in transfer.chunks])

    try:
        assert set(await asyncio.gather(one(), one(), one())) == {store.content}
    finally:
        await source.close()


async def test_beyond_the_end_there_is_nothing_to_fetch(store: Store) -> None:
    with pytest.raises(BeyondEnd, match="answered 416"):
        await fetch(store.access, store.blob, len(store.content) + 1000)


async def test_what_is_not_there_is_said_to_be_missing(store: Store) -> None:
    missing = Wanted("hello/nothing", Digest("sha256:" + "0" * 64))
    with pytest.raises(CannotFetch, match=r"cannot fetch http.*/nothing.*answered 404"):
        await fetch(store.access, missing)


@pytest.mark.parametrize(
    "store", ["registry-basic", "registry-token", "http-guarded"], indirect=True
)
async def test_wrong_credentials_are_refused_and_not_told(store: Store) -> None:
    wrong = structs.replace(store.access, password="not-sesame")
    with pytest.raises(CannotFetch, match="answered 401") as refusal:
        await fetch(wrong, store.blob)
    assert "not-sesame" not in str(refusal.value)
    assert "not-sesame" not in repr(wrong)


async def test_a_server_that_is_gone_is_said_to_be_unreachable(store: Store) -> None:
    scheme = store.access.datastore.fqdn.partition("://")[0]
    fqdn = f"{scheme}://127.0.0.1:{free_port()}"
    gone = structs.replace(
        store.access, datastore=structs.replace(store.access.datastore, fqdn=fqdn)
    )
    with pytest.raises(CannotFetch, match=r"cannot fetch .*connect"):
        await fetch(gone, store.blob)


@pytest.mark.parametrize("store", ["registry-tls", "https-guarded"], indirect=True)
async def test_a_server_of_another_ca_is_not_believed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_authority(tmp_path / "other").ca_pem
    datastore = structs.replace(store.access.datastore, ca_pem=(other,))
    with pytest.raises(CannotFetch, match="CERTIFICATE_VERIFY_FAILED"):
        await fetch(structs.replace(store.access, datastore=datastore), store.blob)


async def test_a_tag_stands_for_a_digest_or_there_are_no_tags(store: Store) -> None:
    source = open_source(store.access, TIMEOUTS)
    try:
        if store.tagged is None:
            with pytest.raises(CannotFetch, match="no tags"):
                await source.resolve(store.blob.url)
            return
        assert await source.resolve(store.tag) == store.tagged
        assert await source.resolve(f"{store.tag}@{store.tagged}") == store.tagged
        with pytest.raises(CannotFetch, match="answered 404"):
            await source.resolve("hello:none")
    finally:
        await source.close()


@pytest.mark.parametrize("store", ["registry", "registry-token"], indirect=True)
async def test_a_manifest_is_fetched_whether_or_not_it_is_said_to_be_one(store: Store) -> None:
    assert store.tagged is not None
    for is_manifest in (True, False):
        _, _, data = await fetch(store.access, Wanted("hello", store.tagged, is_manifest))
        assert hashlib.sha256(data).hexdigest() == store.tagged.removeprefix("sha256:")
