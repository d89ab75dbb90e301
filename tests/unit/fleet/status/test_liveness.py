"""Silence is noticed, said once, and over when the node is heard of again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.devices import Device
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.objects import NodeObjects
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import find_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeStatus
from edgevirt.fleet.status.liveness import CHECK_SECONDS, SILENT_SECONDS, Liveness
from edgevirt.fleet.status.node_reports import NodeReports
from edgevirt.fleet.telemetry import Telemetry
from edgevirt.runtime import Put, Resource, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire.messages import info
from tests.unit.fleet.objects_world import INSTANCE, NODE, changed

DEVICE = Device(
    node=b"n" * 16, cert_hash=bytes(32), key=bytes(64), edge_node=NODE.key, uid=NODE.metadata.uid
)


class World:
    def __init__(self, store: MemoryStore, telemetry: Telemetry, clock: VirtualClock) -> None:
        self.store = store
        self.clock = clock
        self.registry = Registry(lambda _node, _attested: b"")
        self.row = self.registry.add(DEVICE)
        self.registry.whole.set()
        dependencies = Dependencies()
        dependencies.put("EdgeNode", NODE.key, NODE, 1)
        dependencies.put("AppInstance", INSTANCE.key, INSTANCE, 1)
        objects, events = NodeObjects(store, dependencies), Recorder(store, clock)
        self.reports = NodeReports(store, objects, self.registry, events, clock)
        self.liveness = Liveness(store, self.registry, telemetry, objects, events, clock)

    def hear(self) -> None:
        self.registry.touch(self.row, self.clock.now())

    async def pass_time(self, seconds: float) -> None:
        """With checks in between, as the process makes them."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            await self.clock.advance(CHECK_SECONDS)
            await self.liveness.check()

    async def node(self) -> EdgeNode:
        found = await self.store.get(kinds.EDGE_NODE, NODE.key)
        assert found is not None
        return found.value

    async def ready(self) -> str:
        condition = find_condition((await self.node()).status.conditions, "Ready")
        return condition.status if condition else ""

    async def events(self) -> list[str]:
        return [r.value.reason for r in (await self.store.list(kinds.EVENT)).values()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock, store = VirtualClock(), MemoryStore()
    telemetry = Telemetry(tmp_path / "t.db", clock)
    telemetry.start()
    await store.put(kinds.EDGE_NODE, NODE.key, NODE)
    await store.put(kinds.APP_INSTANCE, INSTANCE.key, INSTANCE)
    world = World(store, telemetry, clock)
    await world.liveness.load()
    yield world
    await telemetry.close()


async def test_a_node_that_polls_stays_as_it_is(world: World) -> None:
    for _ in range(20):
        world.hear()
        await world.pass_time(60)
    assert await world.events() == []
    assert (await world.node()).status.phase == ""


async def test_a_silent_node_is_of_unknown_readiness_since_it_was_last_heard_of(
    world: World,
) -> None:
    await world.pass_time(30)
    world.hear()
    heard = world.clock.now()
    await world.pass_time(SILENT_SECONDS - CHECK_SECONDS)
    assert await world.ready() == ""
    await world.pass_time(3 * CHECK_SECONDS)
    assert await world.ready() == "Unknown"
    status = (await world.node()).status
    assert (status.phase, status.last_seen) == ("Offline", timestamp(heard))
    condition = find_condition(status.conditions, "Ready")
    assert condition is not None
    assert timestamp(heard) in condition.message
    app = await world.store.get(kinds.APP_INSTANCE, INSTANCE.key)
    assert app is not None
    its = find_condition(app.value.status.conditions, "Ready")
    assert its is not None
    assert its.status == "Unknown"


async def test_a_node_that_just_reported_was_just_seen(world: World) -> None:
    await world.pass_time(30)
    world.hear()
    heard = world.clock.now()
    await world.clock.advance(1)
    await world.reports.take(NODE.key, info.ZInfoDevice(), at=heard)
    assert (await world.node()).status.last_seen == timestamp(heard)


async def test_silence_is_said_once(world: World) -> None:
    world.hear()
    await world.pass_time(20 * SILENT_SECONDS)
    assert await world.events() == ["Silent"]


async def test_a_node_that_is_heard_of_again_is_ready(world: World) -> None:
    world.hear()
    await world.pass_time(2 * SILENT_SECONDS)
    assert await world.ready() == "Unknown"
    world.hear()
    await world.pass_time(CHECK_SECONDS)
    assert await world.ready() == "True"
    assert (await world.node()).status.phase == "Online"
    assert sorted(await world.events()) == ["Online", "Silent"]


async def test_a_node_that_is_told_to_ask_rarely_has_more_time(world: World) -> None:
    slow = changed(NODE, properties={"timer.config.interval": "3600"})
    await world.store.put(kinds.EDGE_NODE, NODE.key, slow)
    world.hear()
    await world.pass_time(3 * 3_600 - 60)
    assert await world.ready() == ""
    await world.pass_time(200)
    assert await world.ready() == "Unknown"


async def test_a_node_that_never_came_is_not_called_silent(world: World) -> None:
    await world.pass_time(10 * SILENT_SECONDS)
    assert await world.events() == []


async def test_last_seen_is_shown_about_each_minute(world: World) -> None:
    seen = []
    for _ in range(12):
        world.hear()
        await world.pass_time(30)
        seen.append((await world.node()).status.last_seen)
    assert 3 <= len(set(seen)) <= 12


async def test_a_restart_blames_no_node_for_the_fleet_s_own_silence(
    world: World, tmp_path: Path
) -> None:
    world.hear()
    await world.pass_time(CHECK_SECONDS)
    await world.clock.advance(10_000)  # the fleet is down
    telemetry = Telemetry(tmp_path / "t.db", world.clock)
    telemetry.start()
    after = World(world.store, telemetry, world.clock)
    await after.liveness.load()
    assert after.registry.seen(after.row) > 0
    await after.pass_time(SILENT_SECONDS - CHECK_SECONDS)
    assert await after.events() == []
    await after.pass_time(3 * CHECK_SECONDS)
    assert await after.events() == ["Silent"]
    await telemetry.close()


async def test_a_node_that_was_offline_before_a_restart_comes_back(world: World) -> None:
    offline = msgspec.structs.replace(NODE, status=EdgeNodeStatus(phase="Offline"))
    await world.store.put(kinds.EDGE_NODE, NODE.key, offline)
    world.liveness.take(Put(Resource(kinds.EDGE_NODE, NODE.key, offline, 1)))
    world.hear()
    await world.pass_time(CHECK_SECONDS)
    assert (await world.node()).status.phase == "Online"


async def test_the_checks_go_on_by_themselves(world: World) -> None:
    world.hear()
    watching = asyncio.create_task(world.liveness.watch())
    await world.clock.advance(4 * SILENT_SECONDS)
    for _ in range(50):
        await asyncio.sleep(0.01)
        if await world.ready() == "Unknown":
            break
        await world.clock.advance(CHECK_SECONDS)
    assert await world.ready() == "Unknown"
    watching.cancel()
