"""Watches: what is told, in which order, from which version on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from edgevirt.fleet.api.errors import ApiError
from edgevirt.fleet.api.registry.selectors import Selector, parse_labels
from edgevirt.fleet.api.registry.watching import Change, Wanted, Watching
from edgevirt.fleet.objects.kinds import BY_NAME
from tests.parts.operators_api import HERE, MERGE, Json, World, refusal

NODES = Wanted(kind=BY_NAME["EdgeNode"], namespace="default", selector=Selector(), since=None)


class Told:
    """The changes of one watch, as they come."""

    def __init__(self, changes: AsyncIterator[Change]) -> None:
        self._changes = changes

    async def next(self) -> tuple[str, str]:
        """Type and name; of a bookmark its version."""
        async with asyncio.timeout(60):
            change = await anext(self._changes)
        if change.error is not None:
            return change.type, change.error.reason
        if change.held is None:
            return change.type, str(change.version) + ("!" if change.initial_end else "")
        return change.type, change.held.value.metadata.name


@asynccontextmanager
async def watching(world: World, wanted: Wanted = NODES, **changes: Any) -> AsyncIterator[Told]:
    stop = asyncio.Event()
    watched = Watching(world.api.registry, replace(wanted, **changes), stop)
    await watched.start()
    told = watched.changes()
    try:
        yield Told(told)
    finally:
        await told.aclose()  # type: ignore[attr-defined]


async def label(world: World, name: str, **labels: str | None) -> Json:
    change = {"metadata": {"labels": labels}}
    answer = await world.admin.patch(f"{HERE}/edgenodes/{name}", json=change, headers=MERGE)
    body: Json = answer.json()
    return body


async def test_a_watch_begins_with_what_there_is(world: World) -> None:
    await world.create("EdgeNode", "a", {"serial": "a"})
    async with watching(world) as told:
        assert await told.next() == ("ADDED", "a")
        await world.create("EdgeNode", "b", {"serial": "b"})
        assert await told.next() == ("ADDED", "b")
        await label(world, "a", x="y")
        assert await told.next() == ("MODIFIED", "a")
        await world.admin.delete(f"{HERE}/edgenodes/a")
        assert await told.next() == ("DELETED", "a")


async def test_a_watch_goes_on_from_a_list(world: World) -> None:
    await world.create("EdgeNode", "a", {"serial": "a"})
    listed = (await world.admin.get(f"{HERE}/edgenodes")).json()
    since = int(listed["metadata"]["resourceVersion"])
    await world.create("EdgeNode", "b", {"serial": "b"})
    await label(world, "a", x="y")
    await world.admin.delete(f"{HERE}/edgenodes/b")
    async with watching(world, since=since) as told:
        assert await told.next() == ("ADDED", "b")
        assert await told.next() == ("MODIFIED", "a")
        assert await told.next() == ("DELETED", "b")


async def test_a_version_that_is_no_longer_kept_is_gone(world: World) -> None:
    for number in range(1100):
        await world.store.put(BY_NAME["EdgeNode"].store, "x/y", BY_NAME["EdgeNode"].type(
            metadata=type(BY_NAME["EdgeNode"].type().metadata)(name=str(number))
        ))  # fmt: skip
    with pytest.raises(ApiError) as refused:
        async with watching(world, since=1):
            pass
    assert refused.value.code == 410
    path = f"{HERE}/edgenodes?watch=1&resourceVersion=1"
    assert refusal(await world.admin.get(path), 410)["reason"] == "Expired"


async def test_an_object_enters_and_leaves_a_selector(world: World) -> None:
    selector = Selector(parse_labels("x=y"))
    await world.create("EdgeNode", "a", {"serial": "a"})
    async with watching(world, selector=selector) as told:
        await label(world, "a", x="y")
        assert await told.next() == ("ADDED", "a")
        await label(world, "a", z="z")
        assert await told.next() == ("MODIFIED", "a")
        await label(world, "a", x="n")
        assert await told.next() == ("DELETED", "a")
        await label(world, "a", z="y")
        await label(world, "a", x="y")
        assert await told.next() == ("ADDED", "a")


async def test_a_resumed_watch_tells_what_left_the_selector_meanwhile(world: World) -> None:
    await world.create("EdgeNode", "a", {"serial": "a"}, labels={"x": "y"})
    since = int((await label(world, "a", z="z"))["metadata"]["resourceVersion"])
    await label(world, "a", x=None)
    async with watching(world, since=since, selector=Selector(parse_labels("x=y"))) as told:
        assert await told.next() == ("DELETED", "a")


async def test_an_object_made_anew_is_another_object(world: World) -> None:
    await world.create("EdgeNode", "a", {"serial": "a"})
    async with watching(world) as told:
        assert await told.next() == ("ADDED", "a")
        await world.admin.delete(f"{HERE}/edgenodes/a")
        await world.create("EdgeNode", "a", {"serial": "b"})
        assert await told.next() == ("DELETED", "a")
        assert await told.next() == ("ADDED", "a")


async def test_a_watch_of_a_namespace_does_not_tell_of_others(world: World) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default-2"}}
    await world.admin.post("/api/v1/namespaces", json=space)
    async with watching(world) as told:
        node = {
            "apiVersion": "edgevirt.io/v1alpha1",
            "kind": "EdgeNode",
            "metadata": {"name": "there"},
            "spec": {"serial": "s"},
        }
        path = HERE.replace("default", "default-2")
        assert (await world.admin.post(f"{path}/edgenodes", json=node)).status_code == 201
        await world.create("EdgeNode", "here", {"serial": "s"})
        assert await told.next() == ("ADDED", "here")


async def test_the_end_of_the_present_state_is_marked_when_asked_for(world: World) -> None:
    body = await world.create("EdgeNode", "a", {"serial": "a"})
    version = body["metadata"]["resourceVersion"]
    async with watching(world, bookmarks=True, initial_end=True) as told:
        assert await told.next() == ("ADDED", "a")
        assert await told.next() == ("BOOKMARK", f"{version}!")


async def test_bookmarks_go_forward_while_nothing_happens(world: World) -> None:
    async with watching(world, bookmarks=True) as told:
        bookmark = asyncio.ensure_future(told.next())
        await world.clock.advance(61)
        first = int((await bookmark)[1])
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "busy"}}
        await world.admin.post("/api/v1/namespaces", json=space)
        bookmark = asyncio.ensure_future(told.next())
        await world.clock.advance(61)
        assert int((await bookmark)[1]) > first


async def test_a_watch_ends_in_time_and_when_the_api_stops(world: World) -> None:
    path = f"{HERE}/edgenodes?watch=1&timeoutSeconds=100"
    await world.create("EdgeNode", "a", {"serial": "a"})
    for end in (lambda: world.clock.advance(101), _stop(world)):
        answer = asyncio.ensure_future(world.admin.get(path))
        await world.clock.settle()
        assert not answer.done()
        await end()
        async with asyncio.timeout(60):
            (line,) = (await answer).text.splitlines()
        event = json.loads(line)
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")


def _stop(world: World) -> Any:
    async def stop() -> None:
        world.api.stop()

    return stop


async def test_a_watch_over_http_is_a_table_when_asked_for(world: World) -> None:
    await world.create("EdgeNode", "a", {"serial": "a"})
    path = f"{HERE}/edgenodes?watch=1&timeoutSeconds=1&allowWatchBookmarks=1"
    path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    headers = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    answer = asyncio.ensure_future(world.admin.get(path, headers=headers))
    await world.clock.advance(2)
    added, bookmark, last = (json.loads(line) for line in (await answer).text.splitlines())
    assert added["object"]["rows"][0]["cells"][0] == "a"
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["kind"] == "Table"
    meta = bookmark["object"]["rows"][0]["object"]["metadata"]
    assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert last["type"] == "BOOKMARK"
    refusal(await world.admin.get(f"{HERE}/edgenodes?watch=1&sendInitialEvents=true"), 400)


async def test_a_closed_store_ends_the_watch(world: World) -> None:
    async with watching(world) as told:
        coming = asyncio.ensure_future(told.next())
        await world.clock.settle()
        await world.store.close()
        with pytest.raises(StopAsyncIteration):
            async with asyncio.timeout(60):
                await coming
