"""Tags are resolved once, by the first datastore that knows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from edgevirt.model.content import Datastore, DatastoreType, TagAnswer, TagRequest
from edgevirt.model.ids import DatastoreId
from edgevirt.model.kinds import DATASTORE, TAG_ANSWER, TAG_REQUEST
from edgevirt.node.downloader.sources import Sources
from edgevirt.node.downloader.tags import TagReconciler
from edgevirt.runtime import VirtualClock
from edgevirt.runtime import engine as runtime_engine
from edgevirt.runtime.memory import MemoryStore
from tests.parts.rough_server import Request, RoughServer, answer, rough_server

DIGESTS = ["sha256:" + "1" * 64, "sha256:" + "2" * 64]


class World:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.server = RoughServer("")
        self.known = True

    async def serve(self, request: Request, writer: asyncio.StreamWriter) -> None:
        digest = DIGESTS[min(1, len(self.server.requests) - 1)]
        status = 200 if self.known else 404
        answer(writer, status, docker_content_digest=digest)

    async def want(self, url: str, *datastores: str) -> None:
        stores = tuple(DatastoreId(key) for key in datastores)
        await self.store.put(TAG_REQUEST, "t", TagRequest(datastores=stores, url=url))

    async def until(self, good: Callable[[TagAnswer], bool]) -> TagAnswer:
        for _ in range(10_000):
            await self.clock.settle()
            found = await self.store.get(TAG_ANSWER, "t")
            if found is not None and good(found.value):
                return found.value
            await asyncio.sleep(0.005)
        raise AssertionError(f"the answer stayed {found}")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with rough_server(world.serve) as world.server:
        for key, host in {"d1": world.server.host, "gone": "127.0.0.1:1"}.items():
            kind = DatastoreType.CONTAINER_REGISTRY
            store = Datastore(id=DatastoreId(key), type=kind, fqdn=f"docker://{host}")
            await world.store.put(DATASTORE, key, store)
        sources = Sources()
        tags = TagReconciler(sources, jitter=lambda: 0.0)
        serving = asyncio.create_task(runtime_engine.run(world.store, world.clock, [tags]))
        yield world
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await sources.close()


async def test_a_tag_is_asked_of_the_next_datastore_when_one_fails(world: World) -> None:
    await world.want("app:1", "gone", "d1")
    found = await world.until(lambda tag: tag.digest is not None)
    assert found == TagAnswer(url="app:1", digest=found.digest)
    assert found.digest == DIGESTS[0]


async def test_a_tag_that_moves_is_not_followed(world: World) -> None:
    await world.want("app:1", "d1")
    await world.until(lambda tag: tag.digest == DIGESTS[0])
    store = await world.store.get(DATASTORE, "gone")
    assert store is not None
    await world.store.delete(DATASTORE, "gone")  # every key is looked at again
    await world.clock.advance(1)
    assert len(world.server.requests) == 1
    await world.want("app:2", "d1")
    await world.until(lambda tag: tag.url == "app:2" and tag.digest == DIGESTS[1])


async def test_an_unknown_tag_is_told_and_asked_for_again(world: World) -> None:
    world.known = False
    await world.want("app:1", "d1")
    told = await world.until(lambda tag: tag.trouble is not None)
    assert told.trouble is not None
    assert "registry answered 404" in told.trouble.why
    assert told.trouble.hint == "push it to the registry, or name another tag in the Image"
    world.known = True
    await world.clock.advance(6)
    assert (await world.until(lambda tag: tag.digest is not None)).trouble is None
