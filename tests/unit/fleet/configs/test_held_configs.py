"""People are told why a node gets no config, and what it would lose by one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edgevirt.fleet import render
from edgevirt.fleet.configs.held import HeldConfigs
from edgevirt.fleet.configs.lineage import ConfigVersion, Held, make_hash
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.objects import NodeObjects
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import LocalRef, find_condition
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.os import NodeOS
from edgevirt.fleet.objects.software.os_image import OSImage, OSImageSpec
from edgevirt.fleet.telemetry import Stream, Telemetry
from edgevirt.runtime import VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire.messages import metrics
from tests.unit.fleet.objects_world import INSTANCE, NODE, OBJECTS, meta

OS_IMAGE = OSImage(
    metadata=meta("os-1"),
    spec=OSImageSpec(
        version="edgevirt-1", datastore_refs=(LocalRef(name="hub"),), reference="x", sha256="a" * 64
    ),
)
UUID = bytes.fromhex(OBJECTS.node_id.replace("-", ""))
MARK = make_hash(7, 1.0, b"lost").decode()


class World:
    """A node whose config is held back since the clock's beginning."""

    def __init__(self, store: MemoryStore, telemetry: Telemetry, clock: VirtualClock) -> None:
        self.store = store
        self.clock = clock
        self.telemetry = telemetry
        self.began = clock.now()
        objects = NodeObjects(store, Dependencies())
        self._held = HeldConfigs(telemetry, objects, Recorder(store, clock), clock)

    async def node(self) -> EdgeNode:
        found = await self.store.get(kinds.EDGE_NODE, NODE.key)
        assert found is not None
        return found.value

    async def ask(self, mark: str = MARK) -> str:
        """What the condition says after the node asked."""
        held = Held(mark, self.began)
        version = ConfigVersion(5, 1.0, make_hash(5, 1.0, b""), b"", b"", held)
        objects = replace(OBJECTS, node=await self.node(), os_images={"os-1": OS_IMAGE})
        await self._held.tell(objects, render.render(objects), version)
        condition = find_condition((await self.node()).status.conditions, "ConfigApplied")
        assert condition is not None
        assert (condition.status, condition.reason) == ("False", "HeldBack")
        return condition.message

    async def report(self, *apps: tuple[str, str]) -> None:
        message = metrics.ZMetricMsg()
        for name, id in apps:
            message.am.add(AppID=id, AppName=name)
            message.vm.add(uuid=f"volume of {id}", displayName=f"{name}-data")
        await self.clock.advance(60)
        payload = message.SerializeToString()
        await self.telemetry.append(Stream.METRICS, UUID, "", self.clock.now(), payload)

    async def events(self) -> list[str]:
        return [r.value.reason for r in (await self.store.list(kinds.EVENT)).values()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock, store = VirtualClock(), MemoryStore()
    telemetry = Telemetry(tmp_path / "t.db", clock)
    telemetry.start()
    await store.put(kinds.EDGE_NODE, NODE.key, NODE)
    await store.put(kinds.APP_INSTANCE, INSTANCE.key, INSTANCE)
    yield World(store, telemetry, clock)
    await telemetry.close()


async def test_the_condition_says_why_since_when_and_what_to_do(world: World) -> None:
    said = await world.ask()
    assert "version 7 of its config" in said
    assert "none after 5" in said
    assert "since 2" in said or "since 1" in said
    assert f"`edgevirt overwrite {NODE.metadata.name}`" in said
    assert "has yet to tell" in said
    assert await world.events() == ["ConfigHeldBack"]


async def test_after_a_restore_nobody_claims_to_know_what_the_node_has(world: World) -> None:
    said = await world.ask("restored-2026-01-01T00:00:00Z")
    assert "restored from a backup" in said
    assert "version" not in said


async def test_what_the_node_tells_and_the_config_has_not_would_be_lost(world: World) -> None:
    await world.ask()
    ours = (render.app_id(INSTANCE), "web-1")
    await world.report(("web-1", ours[0]), ("till", "b-b"))
    said = await world.ask()
    assert "app till" in said
    assert "volume till-data" in said
    assert "app web-1" not in said
    held = (await world.node()).status.held_config
    assert held is not None
    assert [(app.name, app.id) for app in held.apps] == [("till", "b-b")]
    assert (held.mark, held.told_at is not None) == (MARK, True)
    assert await world.events() == ["ConfigHeldBack"], "once"


async def test_what_was_told_before_the_restore_says_nothing(world: World) -> None:
    await world.report(("old", "a-a"))
    world.began = world.clock.now() + 1
    assert "has yet to tell" in await world.ask()


async def test_nothing_is_written_while_nothing_changes(world: World) -> None:
    await world.report()
    await world.ask()
    before = await world.store.get(kinds.EDGE_NODE, NODE.key)
    await world.report()
    await world.ask()
    assert await world.store.get(kinds.EDGE_NODE, NODE.key) == before


async def test_many_losses_are_counted_not_listed(world: World) -> None:
    await world.report(*((f"app-{n:03}", f"id-{n}") for n in range(400)))
    said = await world.ask()
    assert "app app-000" in said
    assert "295 apps more" in said
    held = (await world.node()).status.held_config
    assert held is not None
    assert len(held.apps) == 300


async def test_a_node_that_would_go_back_to_other_software_says_so(world: World) -> None:
    node = await world.node()
    status = msgspec.structs.replace(node.status, version="edgevirt-2")
    spec = msgspec.structs.replace(node.spec, os=NodeOS(image="os-1"))
    changed = msgspec.structs.replace(node, spec=spec, status=status)
    await world.store.put(kinds.EDGE_NODE, NODE.key, changed)
    assert "changes to version edgevirt-1" in await world.ask()


async def test_an_app_that_was_made_since_says_what_it_waits_for(world: World) -> None:
    await world.ask()
    found = await world.store.get(kinds.APP_INSTANCE, INSTANCE.key)
    assert found is not None
    assert "held back" in found.value.status.what
