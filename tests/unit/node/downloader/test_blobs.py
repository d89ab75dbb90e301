"""Downloads: resumed after cuts and restarts, bounded, retried, told about."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgevirt.host.files import room
from edgevirt.model.base import SwState
from edgevirt.model.content import (
    BlobDownload,
    BlobRequest,
    CipherBlock,
    Credentials,
    Datastore,
    DatastoreType,
)
from edgevirt.model.ids import DatastoreId, Digest
from edgevirt.model.kinds import (
    BLOB_DOWNLOAD,
    BLOB_REQUEST,
    CREDENTIALS,
    DATASTORE,
    PROPERTY,
)
from edgevirt.model.node import Property
from edgevirt.node.downloader.blobs import (
    GRACE,
    LEFTOVER_GRACE,
    BlobReconciler,
    Directories,
)
from edgevirt.node.downloader.sources import Sources
from edgevirt.runtime import VirtualClock
from edgevirt.runtime import engine as runtime_engine
from edgevirt.runtime.memory import MemoryStore
from tests.parts.rough_server import Handler, Request, RoughServer, answer, rough_server

CONTENT = os.urandom(3_000_000)
NAME = hashlib.sha256(CONTENT).hexdigest()
DIGEST = Digest(f"sha256:{NAME}")


async def whole(request: Request, writer: asyncio.StreamWriter) -> None:
    """A good server: ranges and all."""
    first, _, _ = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
    begin = int(first)
    if begin:
        extent = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
        answer(writer, 206, CONTENT[begin:], content_range=extent)
    else:
        answer(writer, 200, CONTENT)


def dying_at(at: int) -> Handler:
    """The connection is cut after byte `at` of the blob."""

    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        first, _, _ = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        begin = int(first)
        left = str(len(CONTENT) - begin)
        status = 206 if begin else 200
        extent = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
        answer(writer, status, CONTENT[begin:at], content_length=left, content_range=extent)

    return serve


class World:
    def __init__(self, where: Path) -> None:
        self.directory = where / "downloads"
        self.directory.mkdir()
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.handler: Handler = whole
        self.server = RoughServer("")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """A server and one run of the service."""

        async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
            await self.handler(request, writer)

        for key in await self.store.list(BLOB_DOWNLOAD):
            await self.store.delete(BLOB_DOWNLOAD, key)
        async with rough_server(serve) as self.server:
            await self.datastore("d1", self.server.url)
            sources = Sources()
            blobs = BlobReconciler(
                Directories(self.directory, self.directory / "system"),
                sources,
                self.clock,
                lambda: 0.0,
            )
            serving = asyncio.create_task(runtime_engine.run(self.store, self.clock, [blobs]))
            try:
                yield
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await sources.close()

    async def datastore(self, key: str, fqdn: str, **fields: Any) -> None:
        store = Datastore(id=DatastoreId(key), type=DatastoreType.HTTP, fqdn=fqdn, **fields)
        await self.store.put(DATASTORE, key, store)

    async def want(self, *datastores: str, **fields: Any) -> None:
        stores = tuple(DatastoreId(key) for key in datastores or ("d1",))
        request = BlobRequest(digest=DIGEST, datastores=stores, url="blob", **fields)
        await self.store.put(BLOB_REQUEST, DIGEST, request)

    async def until(self, good: Callable[[BlobDownload | None], bool]) -> BlobDownload | None:
        found: BlobDownload | None = None
        for _ in range(10_000):
            await self.clock.settle()
            item = await self.store.get(BLOB_DOWNLOAD, DIGEST)
            found = None if item is None else item.value
            if good(found):
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"the download stayed {found}")

    async def reached(self, state: SwState) -> BlobDownload:
        found = await self.until(lambda d: d is not None and d.state == state)
        assert found is not None
        return found

    async def troubled(self, attempts: int = 1) -> BlobDownload:
        found = await self.until(
            lambda d: d is not None and d.trouble is not None and d.trouble.attempts == attempts
        )
        assert found is not None
        return found

    async def why(self) -> str:
        found = await self.troubled()
        assert found.trouble is not None
        return found.trouble.why

    def ranges(self) -> list[str]:
        return [request.headers.get("range", "") for request in self.server.requests]

    @property
    def whole(self) -> Path:
        return self.directory / NAME

    @property
    def part(self) -> Path:
        return self.directory / f"{NAME}.part"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_blob_is_there_under_its_digest_when_it_is_whole(world: World) -> None:
    async with world.running():
        await world.want(size=len(CONTENT))
        done = await world.reached(SwState.DOWNLOADED)
    assert done == BlobDownload(
        digest=DIGEST, state=SwState.DOWNLOADED, received=len(CONTENT), size=len(CONTENT)
    )
    assert world.whole.read_bytes() == CONTENT
    assert not world.part.exists()


async def test_a_transfer_that_was_cut_goes_on_where_it_stopped(world: World) -> None:
    world.handler = dying_at(1_000_000)
    async with world.running():
        await world.want()
        assert "without sending complete" in await world.why()
        assert world.part.stat().st_size == 1_000_000
        world.handler = whole
        await world.clock.advance(6)
        await world.reached(SwState.DOWNLOADED)
        assert world.ranges() == ["", "bytes=1000000-"]
    assert world.whole.read_bytes() == CONTENT


async def test_a_transfer_goes_on_after_a_restart(world: World) -> None:
    world.part.write_bytes(CONTENT[:2_000_000])
    async with world.running():
        await world.want(size=len(CONTENT))
        await world.reached(SwState.DOWNLOADED)
        assert world.ranges() == ["bytes=2000000-"]
    assert world.whole.read_bytes() == CONTENT


async def test_a_part_that_is_all_there_is_not_asked_for_again(world: World) -> None:
    world.part.write_bytes(CONTENT)
    async with world.running():
        await world.want(size=len(CONTENT))
        await world.reached(SwState.DOWNLOADED)
        assert world.ranges() == []


async def test_a_part_that_is_too_long_is_dropped(world: World) -> None:
    world.part.write_bytes(CONTENT + b"x")
    async with world.running():
        await world.want(size=len(CONTENT))
        await world.reached(SwState.DOWNLOADED)
    assert world.whole.read_bytes() == CONTENT


async def test_a_part_that_the_server_knows_nothing_of_is_dropped(world: World) -> None:
    async def beyond(request: Request, writer: asyncio.StreamWriter) -> None:
        if "range" in request.headers:
            answer(writer, 416, b"")
        else:
            await whole(request, writer)

    world.part.write_bytes(CONTENT)
    world.handler = beyond
    async with world.running():
        await world.want()
        assert "416" in await world.why()
        await world.clock.advance(6)
        await world.reached(SwState.DOWNLOADED)
    assert world.whole.read_bytes() == CONTENT


async def test_a_server_without_ranges_starts_over_and_the_bytes_are_right(world: World) -> None:
    async def no_ranges(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, CONTENT)

    world.part.write_bytes(b"x" * 1000)
    world.handler = no_ranges
    async with world.running():
        await world.want()
        await world.reached(SwState.DOWNLOADED)
    assert world.whole.read_bytes() == CONTENT


async def test_a_new_attempt_starts_over(world: World) -> None:
    async with world.running():
        await world.want()
        await world.reached(SwState.DOWNLOADED)
        await world.want(attempt=1)
        await world.until(lambda d: d is not None and d.attempt == 1 and d.received > 0)
        await world.reached(SwState.DOWNLOADED)
        assert world.ranges() == ["", ""]


async def test_after_a_restart_a_later_attempt_trusts_nothing_on_the_disk(world: World) -> None:
    world.whole.write_bytes(b"wrong")
    world.part.write_bytes(b"wrong")
    async with world.running():
        await world.want(attempt=2)
        await world.reached(SwState.DOWNLOADED)
    assert world.whole.read_bytes() == CONTENT


async def test_the_next_datastore_is_tried_when_one_fails(world: World) -> None:
    async with world.running():
        await world.datastore("gone", "http://127.0.0.1:1")
        await world.want("unknown", "gone", "d1")
        await world.reached(SwState.DOWNLOADED)


async def test_what_every_datastore_said_is_told(world: World) -> None:
    async with world.running():
        await world.datastore("gone", "http://127.0.0.1:1")
        await world.want("unknown", "gone")
        why = await world.why()
    assert "datastore unknown: it is not configured" in why
    assert "cannot fetch http://127.0.0.1:1/blob" in why


async def test_failures_are_retried_ever_later_and_grow_more_severe(world: World) -> None:
    async def broken(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 503, b"busy")

    world.handler = broken
    async with world.running():
        await world.want()
        waits = []
        tried = world.clock.now()
        for attempt in range(1, 8):
            told = await world.troubled(attempt)
            assert told.trouble is not None
            assert told.trouble.retry_at is not None
            waits.append(round(told.trouble.retry_at - tried))
            tried = told.trouble.retry_at
            await world.clock.advance(tried - world.clock.now())
    assert waits == [5, 15, 45, 135, 405, 600, 600]


async def test_credentials_that_come_are_tried_at_once(world: World) -> None:
    async def guarded(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.headers.get("authorization") == "Bearer sesame":
            await whole(request, writer)
        else:
            answer(writer, 401, b"no")

    world.handler = guarded
    allowed = Property(value="true")
    await world.store.put(PROPERTY, "datastore.http.security.allowinsecureauth", allowed)
    block = CipherBlock(context_id="c", initial_value=b"", data=b"", clear_sha256=b"")
    async with world.running():
        await world.datastore("d1", world.server.url, cipher=block)
        await world.want()
        assert "credentials are not decrypted yet" in await world.why()
        assert world.server.requests == []
        await world.store.put(CREDENTIALS, "d1", Credentials(user="Bearer", password="sesame"))
        await world.reached(SwState.DOWNLOADED)


async def test_credentials_never_go_in_clear_unless_a_property_allows_it(world: World) -> None:
    async with world.running():
        await world.datastore("d1", world.server.url, api_key="Basic", password="sesame")
        await world.want()
        why = await world.why()
        assert "would go in clear text" in why
        assert "sesame" not in why
        assert world.server.requests == []
        allowed = Property(value="true")
        await world.store.put(PROPERTY, "datastore.http.security.allowinsecureauth", allowed)
        await world.reached(SwState.DOWNLOADED)


@pytest.mark.parametrize(("size", "max_size"), [(0, 1000), (1000, 0)])
async def test_more_bytes_than_allowed_are_refused_before_they_are_fetched(
    world: World, size: int, max_size: int
) -> None:
    async with world.running():
        await world.want(size=size, max_size=max_size)
        refused = await world.reached(SwState.FAILED)
        assert refused.trouble is not None
        assert f"it has {len(CONTENT)} bytes, allowed are 1000" in refused.trouble.why
        assert refused.trouble.retry_at is None
        await world.clock.advance(10_000)
        assert len(world.server.requests) == 1
        await world.want(max_size=len(CONTENT))
        await world.reached(SwState.DOWNLOADED)


async def test_a_server_that_does_not_say_how_much_comes_is_cut_at_the_bound(world: World) -> None:
    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        while not writer.is_closing():
            writer.write(bytes(65536))
            await writer.drain()

    world.handler = endless
    async with world.running():
        await world.want(max_size=500_000)
        refused = await world.reached(SwState.FAILED)
    assert refused.trouble is not None
    assert "more than 500000 bytes" in refused.trouble.why
    assert not world.part.exists()


async def test_an_answer_of_unknown_length_is_whole_at_its_end(world: World) -> None:
    async def closing(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + CONTENT)

    world.handler = closing
    async with world.running():
        await world.want()
        await world.reached(SwState.DOWNLOADED)
    assert world.whole.read_bytes() == CONTENT


async def test_a_full_disk_is_told_with_what_is_missing_and_the_part_is_kept(world: World) -> None:
    too_big = 1000 + room(world.directory).total

    async def huge(request: Request, writer: asyncio.StreamWriter) -> None:
        extent = f"bytes 1000-{too_big - 1}/{too_big}"
        answer(writer, 206, b"", content_length=str(too_big - 1000), content_range=extent)

    world.part.write_bytes(CONTENT[:1000])
    world.handler = huge
    async with world.running():
        await world.want()
        why = await world.why()
        assert f"{too_big - 1000} bytes needed" in why
        assert world.part.stat().st_size == 1000


async def test_a_server_that_hangs_does_not_hold_up_a_request_that_goes(world: World) -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200, CONTENT[:1000], content_length=str(len(CONTENT)))
        await asyncio.sleep(3600)

    world.handler = silent
    async with world.running():
        await world.want()
        await world.until(lambda d: d is not None and d.received == 1000)
        await world.store.delete(BLOB_REQUEST, DIGEST)
        await world.clock.advance(2)
        for _ in range(10_000):
            if world.part.exists() and world.part.stat().st_size == 1000:
                break
            await asyncio.sleep(0.005)
        assert world.part.stat().st_size == 1000
        await world.clock.advance(GRACE + 2)
        await world.until(lambda d: d is None)
        assert list(world.directory.iterdir()) == []


async def test_progress_is_told_at_a_bounded_rate(world: World) -> None:
    told = 0

    async def count() -> None:
        nonlocal told
        async for _ in world.store.watch(BLOB_DOWNLOAD):
            told += 1

    async with world.running():
        counting = asyncio.create_task(count())
        await world.want()
        await world.reached(SwState.DOWNLOADED)
        await world.clock.settle()
        counting.cancel()
    assert told <= 5  # in step, begun, first bytes, done; the clock stood still


# -- letting go --


async def test_bytes_that_nobody_wants_any_more_go_after_a_grace(world: World) -> None:
    async with world.running():
        await world.want()
        await world.reached(SwState.DOWNLOADED)
        await world.store.delete(BLOB_REQUEST, DIGEST)
        await world.clock.advance(GRACE - 1)
        assert world.whole.exists()
        await world.clock.advance(2)
        await world.until(lambda d: d is None)
    assert list(world.directory.iterdir()) == []


async def test_a_part_found_at_start_waits_for_its_request(world: World) -> None:
    world.part.write_bytes(CONTENT[:5])
    (world.directory / "rubbish").write_text("not mine")
    async with world.running():
        await world.clock.advance(LEFTOVER_GRACE - 1)
        assert world.part.exists()
        await world.clock.advance(2)
        await world.until(lambda d: not world.part.exists())


async def test_a_key_that_is_no_digest_touches_nothing(world: World) -> None:
    async with world.running():
        evil = Digest("../../evil")
        request = BlobRequest(digest=evil, datastores=(DatastoreId("d1"),), url="blob")
        await world.store.put(BLOB_REQUEST, evil, request)
        await world.clock.advance(5)
        assert world.server.requests == []
        assert not list(world.directory.iterdir())
