"""Configs per node: made when asked for, never older than the last, nothing made twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.configs.configs import Configs
from edgevirt.fleet.configs.lineage import CONFIG_VERSION, ConfigVersion, hold_all
from edgevirt.fleet.keys import KeyRing, Role
from edgevirt.fleet.nodes.devices import Device, device_key
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.core.sealing import Sealer
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeStatus
from edgevirt.fleet.render import Objects, Rendered
from edgevirt.runtime import Gone, InStep, Kind, Put, Resource, Store, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire import envelope, signatures
from edgevirt.wire.messages import config
from tests.unit.fleet.objects_world import APP, IMAGE, INSTANCE, LAN, NODE, STORE, changed

UUID = bytes(range(16))
DEVICE = Device(
    node=UUID,
    cert_hash=bytes(32),
    key=signatures.pack_key(ec.generate_private_key(ec.SECP256R1()).public_key()),
    edge_node=NODE.key,
    uid=NODE.metadata.uid,
)


class World:
    """Configs over a store, as the fleet's process wires them."""

    def __init__(self, store: Store, ring: KeyRing, clock: VirtualClock) -> None:
        self.store = store
        self.ring = ring
        self.registry = Registry(lambda _node, _attested: b"")
        self.row = self.registry.add(DEVICE)
        self.configs = Configs(store, self.registry, ring, Sealer(bytes(32)), clock)
        self.versions: list[ConfigVersion] = []
        self.held: list[ConfigVersion] = []
        self.configs.on_rendered(self._note)
        self.configs.on_held(self._note_held)

    async def _note(self, _objects: Objects, _rendered: Rendered, version: ConfigVersion) -> None:
        self.versions.append(version)

    async def _note_held(self, _: Objects, _rendered: Rendered, version: ConfigVersion) -> None:
        self.held.append(version)

    async def feed(self) -> None:
        async for event in self.store.watch(kinds.EDGE_NODE):
            self.configs.take("EdgeNode", event)

    async def ask(self, known: bytes = b"") -> config.ConfigResponse | None:
        """What the node gets; None for «unchanged»."""
        reply = await self.configs.answer(self.row, known)
        if reply is None:
            return None
        payload = envelope.open_envelope(reply.body, 1 << 20).payload
        return config.ConfigResponse.FromString(payload)

    async def expect(self, known: bytes = b"") -> config.ConfigResponse:
        answer = await self.ask(known)
        assert answer is not None
        return answer


@contextlib.asynccontextmanager
async def running(store: Store, ring: KeyRing, clock: VirtualClock) -> AsyncIterator[World]:
    world = World(store, ring, clock)
    tasks = [asyncio.create_task(world.configs.follow()), asyncio.create_task(world.feed())]
    await world.configs.in_step.wait()
    try:
        yield world
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def ring(tmp_path: Path, clock: VirtualClock) -> KeyRing:
    return KeyRing(tmp_path / "keys", ["localhost"], clock)


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.put(kinds.EDGE_NODE, NODE.key, NODE)
    await store.put(kinds.APP, APP.key, APP)
    await store.put(kinds.IMAGE, IMAGE.key, IMAGE)
    await store.put(kinds.NETWORK_INSTANCE, LAN.key, LAN)
    await store.put(kinds.DATASTORE, STORE.key, STORE)
    await store.put(kinds.APP_INSTANCE, INSTANCE.key, INSTANCE)
    return store


@pytest.fixture
async def world(store: MemoryStore, ring: KeyRing, clock: VirtualClock) -> AsyncIterator[World]:
    async with running(store, ring, clock) as world:
        yield world


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_node_gets_its_config_and_then_nothing_new(world: World) -> None:
    answer = await world.expect()
    assert [app.displayname for app in answer.config.apps] == ["web-1"]
    known = answer.configHash.encode()
    assert len(known) == 43
    assert await world.ask(known) is None
    assert world.registry.config_hash(world.row) == known
    assert len(world.versions) == 1


async def test_a_change_makes_a_new_version_and_its_time_grows(
    world: World, clock: VirtualClock
) -> None:
    first = await world.expect()
    clock._now -= 5_000  # somebody set our clock back
    await world.store.put(kinds.APP, APP.key, changed(APP, command=("/other",)))
    await settle()
    second = await world.expect(first.configHash.encode())
    assert second.configHash != first.configHash
    stamps = [a.config.config_timestamp.ToNanoseconds() for a in (first, second)]
    assert stamps[1] > stamps[0]
    assert [v.number for v in world.versions] == [1, 2]
    assert second.config.id.version == "2"


async def test_a_change_and_back_is_not_mistaken_for_no_change(world: World) -> None:
    first = await world.expect()
    for value in (changed(APP, command=("/other",)), changed(changed(APP), command=())):
        await world.store.put(kinds.APP, APP.key, value)
        await settle()
        await world.expect()
    assert (await world.expect()).configHash != first.configHash


async def test_a_status_makes_no_new_version(world: World) -> None:
    first = await world.expect()
    told = msgspec.structs.replace(NODE, status=EdgeNodeStatus(hostname="box"))
    await world.store.put(kinds.EDGE_NODE, NODE.key, told)
    await settle()
    assert world.registry.config_hash(world.row) == first.configHash.encode()


async def test_a_change_without_effect_keeps_version_and_hash(world: World) -> None:
    first = await world.expect()
    await world.store.put(kinds.EDGE_NODE, NODE.key, changed(NODE))
    await settle()
    assert await world.ask(first.configHash.encode()) is None
    assert len(world.versions) == 1


async def test_a_restart_renders_nothing(
    store: MemoryStore, ring: KeyRing, clock: VirtualClock
) -> None:
    async with running(store, ring, clock) as before:
        first = await before.expect()
    await clock.advance(1_000)
    async with running(store, ring, clock) as after:
        assert await after.ask(first.configHash.encode()) is None
        assert after.versions == []
        again = await after.expect()
        assert again.SerializeToString() == first.SerializeToString()


async def test_what_changed_while_the_fleet_was_down_is_noticed(
    store: MemoryStore, ring: KeyRing, clock: VirtualClock
) -> None:
    async with running(store, ring, clock) as before:
        first = await before.expect()
    await store.put(kinds.APP, APP.key, changed(APP, command=("/other",)))
    async with running(store, ring, clock) as after:
        assert (await after.expect(first.configHash.encode())).configHash != first.configHash


async def test_many_questions_at_once_are_one_rendering(world: World) -> None:
    answers = await asyncio.gather(*(world.expect() for _ in range(20)))
    assert len({answer.configHash for answer in answers}) == 1
    assert len(world.versions) == 1


async def test_a_config_is_sealed_once_per_version_and_signer(world: World) -> None:
    first = await world.configs.answer(world.row, b"")
    assert await world.configs.answer(world.row, b"") is first
    world.ring.rotate(Role.SIGNING)
    second = await world.configs.answer(world.row, b"")
    assert second is not None
    opened = envelope.open_envelope(second.body, 1 << 20)
    assert opened.sender_hash == world.ring.keys.signing_hash


@pytest.mark.parametrize("role", [Role.SIGNING, Role.ENCRYPTION])
async def test_nodes_learn_of_rotated_certificates_by_their_configs(
    world: World, role: Role
) -> None:
    first = await world.expect()
    world.ring.rotate(role)
    second = await world.expect(first.configHash.encode())
    assert second.config.controllercert_confighash == world.ring.keys.certs_hash
    assert second.config.controllercert_confighash != first.config.controllercert_confighash


async def test_an_object_that_goes_takes_its_part_of_the_config_along(world: World) -> None:
    await world.expect()
    await world.store.delete(kinds.APP_INSTANCE, INSTANCE.key)
    await settle()
    assert len((await world.expect()).config.apps) == 0


async def test_without_its_edge_node_there_is_no_config(world: World) -> None:
    await world.store.delete(kinds.EDGE_NODE, NODE.key)
    await settle()
    with pytest.raises(LookupError):
        await world.ask()


async def test_the_version_is_kept_before_it_is_told(world: World) -> None:
    answer = await world.expect()
    kept = await world.store.get(CONFIG_VERSION, device_key(UUID))
    assert kept is not None
    assert kept.value.config_hash.decode() == answer.configHash


def test_events_of_edge_nodes_are_taken_in_any_order(ring: KeyRing, clock: VirtualClock) -> None:
    world = World(MemoryStore(), ring, clock)
    resource: Resource[EdgeNode] = Resource(kinds.EDGE_NODE, NODE.key, NODE, 1)
    for event in (Gone(resource), Put(resource), InStep(1), Gone(resource), Put(resource)):
        world.configs.take("EdgeNode", event)
    assert world.configs.dependencies.exists("EdgeNode", NODE.key)


# -- a store that is older than the node ---------------------------------------------------------


async def lost(world: World, store: MemoryStore) -> bytes:
    """What the node has from the fleet that went on after the copy `store` was made."""
    known = (await world.expect()).configHash.encode()
    for kind in (CONFIG_VERSION, *kinds_of_objects()):
        for key, resource in (await world.store.list(kind)).items():
            await store.put(kind, key, resource.value)
    await world.store.put(kinds.APP, APP.key, changed(APP, command=("/other",)))
    await settle()
    return (await world.expect(known)).configHash.encode()


def kinds_of_objects() -> tuple[Kind[Any], ...]:
    return (
        *(kinds.EDGE_NODE, kinds.APP, kinds.IMAGE, kinds.NETWORK_INSTANCE),
        *(kinds.DATASTORE, kinds.APP_INSTANCE),
    )


async def status_of(world: World, known: bytes) -> int:
    reply = await world.configs.answer(world.row, known)
    return reply.status if reply is not None else 0


async def test_a_node_that_is_ahead_of_the_store_keeps_what_it_has(
    world: World, ring: KeyRing, clock: VirtualClock
) -> None:
    older = MemoryStore()
    known = await lost(world, older)
    async with running(older, ring, clock) as restored:
        assert await status_of(restored, known) == 304
        assert await status_of(restored, b"") == 503, "not the old config after a restart either"
        await older.delete(kinds.APP_INSTANCE, INSTANCE.key)
        await settle()
        assert await status_of(restored, known) == 304
        assert restored.versions == []
        assert [version.number for version in restored.held] == [1, 1, 1]
    async with running(older, ring, clock) as again:
        assert await status_of(again, b"") == 503, "a restart of the fleet changes nothing"


async def test_its_config_goes_on_once_people_named_what_they_overwrite(
    world: World, ring: KeyRing, clock: VirtualClock
) -> None:
    older = MemoryStore()
    known = await lost(world, older)
    async with running(older, ring, clock) as restored:
        for mark, status in (("2.another", 304), (known.decode(), 200)):
            spec = msgspec.structs.replace(NODE.spec, overwrite_config=mark)
            meta = msgspec.structs.replace(NODE.metadata, generation=len(mark))
            node = msgspec.structs.replace(NODE, spec=spec, metadata=meta)
            await older.put(kinds.EDGE_NODE, NODE.key, node)
            await settle()
            assert await status_of(restored, known) == status
        answer = await restored.expect(known)
        assert answer.config.id.version == "3", "beyond the lost version 2"
        assert await restored.ask(answer.configHash.encode()) is None


async def test_a_node_that_the_store_is_ahead_of_is_served_after_a_restore(
    world: World, store: MemoryStore, clock: VirtualClock
) -> None:
    first = (await world.expect()).configHash.encode()
    await world.store.put(kinds.APP, APP.key, changed(APP, command=("/other",)))
    await settle()
    second = (await world.expect(first)).configHash.encode()
    await hold_all(store, clock.now())
    world.configs.forget(NODE.key)
    assert await status_of(world, b"") == 503
    assert await status_of(world, first) == 200
    await hold_all(store, clock.now())
    world.configs.forget(NODE.key)
    assert await world.ask(second) is None
    assert await world.ask(second) is None
