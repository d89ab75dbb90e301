"""Enrolment over a store in memory: the cases that take two machines, or a crash in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.fleet.enrollment.enrollment import Enrollment
from edgevirt.fleet.enrollment.waiting import Machine, Outcome, read_machine
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.devices import DEVICE, DEVICE_TRUST, SERIAL_CLAIM, DeviceTrust, node_id
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import LocalRef, born
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec
from edgevirt.fleet.objects.node.onboarding import (
    EnrollmentRequest,
    EnrollmentRequestSpec,
    OnboardingKey,
    OnboardingKeySpec,
)
from edgevirt.runtime import Gone, Kind, Put, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire import certificates

VALIDITY = certificates.Validity(
    datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)
)
NS = "shop"


class World:
    def __init__(self, store: MemoryStore, clock: VirtualClock) -> None:
        self.store = store
        self.clock = clock
        self.registry = Registry(lambda _node, _attested: b"")
        self.dependencies = Dependencies()
        events = Recorder(store, clock)
        self.enrollment = Enrollment(store, self.registry, self.dependencies, events, clock)

    async def follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.registry.follow(self.store))
            group.create_task(self.enrollment.follow())
            await self.registry.whole.wait()
            async for event in self.store.watch(kinds.EDGE_NODE):
                if isinstance(event, Put):
                    resource = event.resource
                    self.dependencies.put("EdgeNode", resource.key, resource.value, 0)
                elif isinstance(event, Gone):
                    self.dependencies.remove("EdgeNode", event.resource.key)
                await self.enrollment.take_node(event)

    async def put(self, kind: Any, value: Any) -> None:
        await self.store.put(kind, value.key, value)
        await settle()

    async def node(self, name: str) -> EdgeNode:
        found = await self.store.get(kinds.EDGE_NODE, f"{NS}/{name}")
        assert found is not None
        return found.value

    async def requests(self) -> list[EnrollmentRequest]:
        found = await self.store.list(kinds.ENROLLMENT_REQUEST)
        return [resource.value for resource in found.values()]


@contextlib.asynccontextmanager
async def running(store: MemoryStore, clock: VirtualClock) -> AsyncIterator[World]:
    world = World(store, clock)
    following = asyncio.create_task(world.follow())
    await world.enrollment.in_step.wait()
    try:
        yield world
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running(MemoryStore(), VirtualClock()) as world:
        yield world


async def settle() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


def machine(serial: str, soft: str = "") -> Machine:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certificates.make_device("device", key, VALIDITY)
    return read_machine(certificates.to_pem(certificate), serial, soft)


def onboarding(name: str, *serials: str, approve: bool = True) -> tuple[OnboardingKey, bytes]:
    """The object, and the hash of its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certificates.make_onboarding("onboarding", key, VALIDITY)
    spec = OnboardingKeySpec(
        certificate=certificates.to_pem(certificate).decode(),
        serials=serials or ("*",),
        auto_approve=approve,
        node_labels={"by": name},
    )
    made = OnboardingKey(metadata=born(name, NS, 0.0), spec=spec)
    return made, certificates.der_hash(certificate)


def edge_node(name: str, serial: str, key: str = "") -> EdgeNode:
    ref = LocalRef(name=key) if key else None
    spec = EdgeNodeSpec(serial=serial, onboarding_key_ref=ref)
    return EdgeNode(metadata=born(name, NS, 0.0), spec=spec)


async def admit(world: World, *serials: str, approve: bool = True) -> bytes:
    key, key_hash = onboarding("key", *serials, approve=approve)
    await world.put(kinds.ONBOARDING_KEY, key)
    return key_hash


async def test_a_machine_that_is_let_in_at_once_becomes_a_node(world: World) -> None:
    key = await admit(world)
    comer = machine("SN 0042/x")
    assert await world.enrollment.register(key, comer) is Outcome.NEW
    node = await world.node("sn-0042-x")
    assert node.status.node_id == str(node_id(comer.cert_hash))
    assert node.metadata.labels == {"by": "key"}
    assert world.registry.find(comer.cert_hash) >= 0
    used = await world.store.get(kinds.ONBOARDING_KEY, f"{NS}/key")
    assert used is not None
    assert used.value.status.uses == 1


async def test_two_machines_never_become_one_node(world: World) -> None:
    first_key, second_key = await admit(world), onboarding("other")
    await world.put(kinds.ONBOARDING_KEY, second_key[0])
    await world.put(kinds.EDGE_NODE, edge_node("till", "SN"))
    outcomes = await asyncio.gather(
        world.enrollment.register(first_key, machine("SN")),
        world.enrollment.register(second_key[1], machine("SN")),
    )
    assert outcomes[0] is Outcome.NEW
    devices = [r.value for r in (await world.store.list(DEVICE)).values()]
    assert len({device.edge_node for device in devices}) == len(devices)


async def test_a_key_that_names_the_serial_goes_before_one_for_all(world: World) -> None:
    """The same certificate may be in two objects."""
    wide, key_hash = onboarding("a-wide")
    narrow = msgspec.structs.replace(
        wide,
        metadata=born("z-narrow", NS, 0.0),
        spec=msgspec.structs.replace(wide.spec, serials=("SN",), node_labels={"by": "narrow"}),
    )
    for key in (wide, narrow):
        await world.put(kinds.ONBOARDING_KEY, key)
    await world.enrollment.register(key_hash, machine("SN"))
    assert (await world.node("sn")).metadata.labels == {"by": "narrow"}


async def test_an_edge_node_that_asks_for_a_key_takes_no_other(world: World) -> None:
    key = await admit(world, approve=False)
    await world.put(kinds.EDGE_NODE, edge_node("till", "SN", key="another-key"))
    assert await world.enrollment.register(key, machine("SN")) is Outcome.NEW
    assert (await world.node("till")).status.node_id == ""
    assert len(await world.requests()) == 1


async def test_the_soft_serial_counts_as_well(world: World) -> None:
    key = await admit(world, "SOFT-1")
    await world.put(kinds.EDGE_NODE, edge_node("till", "SOFT-1"))
    assert await world.enrollment.register(key, machine("HW-9", "SOFT-1")) is Outcome.NEW
    assert (await world.node("till")).status.node_id
    assert await world.enrollment.register(key, machine("HW-9", "SOFT-2")) is Outcome.REFUSED


async def test_a_withdrawn_key_lets_nobody_in(world: World) -> None:
    key = await admit(world)
    await world.store.delete(kinds.ONBOARDING_KEY, f"{NS}/key")
    await settle()
    assert await world.enrollment.register(key, machine("SN")) is Outcome.REFUSED


async def test_a_crash_between_status_and_device_heals_when_the_machine_asks_again() -> None:
    store, clock = MemoryStore(), VirtualClock()
    comer = machine("SN")
    async with running(store, clock) as world:
        key = await admit(world)
        await world.enrollment.register(key, comer)
    (device_key,) = await store.list(DEVICE)
    await store.delete(DEVICE, device_key)  # as if it had never been written
    async with running(store, clock) as world:
        assert world.registry.find(comer.cert_hash) < 0
        assert await world.enrollment.register(key, comer) is Outcome.NEW
        assert world.registry.find(comer.cert_hash) >= 0
        assert len(await store.list(kinds.EDGE_NODE)) == 1


async def test_a_deleted_node_leaves_nothing_behind(world: World) -> None:
    key, comer = await admit(world), machine("SN")
    await world.enrollment.register(key, comer)
    await settle()
    (name,) = await world.store.list(DEVICE)
    await world.store.put(DEVICE_TRUST, name, DeviceTrust())
    await world.store.delete(kinds.EDGE_NODE, f"{NS}/sn")
    await settle()
    left: tuple[Kind[Any], ...] = (DEVICE, DEVICE_TRUST, SERIAL_CLAIM)
    for kind in left:
        assert await world.store.list(kind) == {}
    assert world.registry.find(comer.cert_hash) < 0
    assert await world.enrollment.register(key, machine("SN")) is Outcome.NEW


async def test_a_node_deleted_while_the_fleet_was_down_is_let_go() -> None:
    store, clock, comer = MemoryStore(), VirtualClock(), machine("SN")
    async with running(store, clock) as world:
        key = await admit(world)
        await world.enrollment.register(key, comer)
    await store.delete(kinds.EDGE_NODE, f"{NS}/sn")
    async with running(store, clock) as world:
        assert world.registry.find(comer.cert_hash) < 0
        assert await world.enrollment.register(key, machine("SN")) is Outcome.NEW


async def test_an_edge_node_made_anew_waits_for_a_machine_again(world: World) -> None:
    """Watchers may see but the second of a deletion and a creation."""
    key, comer = await admit(world, approve=False), machine("SN")
    await world.put(kinds.EDGE_NODE, edge_node("till", "SN"))
    await world.enrollment.register(key, comer)
    await world.store.put(kinds.EDGE_NODE, f"{NS}/till", edge_node("till", "SN"))
    await settle()
    assert world.registry.find(comer.cert_hash) < 0
    assert await world.enrollment.register(key, comer) is Outcome.NEW
    assert (await world.node("till")).status.node_id == str(node_id(comer.cert_hash))


async def test_a_request_that_people_delete_frees_the_serial(world: World) -> None:
    key = await admit(world, approve=False)
    await world.enrollment.register(key, machine("SN"))
    await settle()
    assert await world.enrollment.register(key, machine("SN")) is Outcome.TAKEN
    (request,) = await world.requests()
    await world.store.delete(kinds.ENROLLMENT_REQUEST, request.key)
    await settle()
    assert await world.enrollment.register(key, machine("SN")) is Outcome.NEW


async def answer(world: World, **spec: Any) -> EnrollmentRequest:
    (request,) = await world.requests()
    changed = msgspec.structs.replace(request, spec=msgspec.structs.replace(request.spec, **spec))
    await world.put(kinds.ENROLLMENT_REQUEST, changed)
    (request,) = await world.requests()
    return request


async def test_an_approved_machine_becomes_the_named_node(world: World) -> None:
    key, comer = await admit(world, approve=False), machine("SN")
    await world.enrollment.register(key, comer)
    assert world.enrollment.asks(comer.cert_hash)
    request = await answer(world, approved=True, node_name="till-7", node_labels={"a": "b"})
    assert request.status.edge_node == "till-7"
    assert not world.enrollment.asks(comer.cert_hash)
    node = await world.node("till-7")
    assert (node.spec.serial, node.metadata.labels) == ("SN", {"a": "b"})


async def test_approving_for_another_machine_s_node_says_that_it_cannot_be(world: World) -> None:
    key = await admit(world, "SN-1")
    await world.enrollment.register(key, machine("SN-1"))
    manual, manual_hash = onboarding("manual", approve=False)
    await world.put(kinds.ONBOARDING_KEY, manual)
    comer = machine("SN-2")
    await world.enrollment.register(manual_hash, comer)
    request = await answer(world, approved=True, node_name="sn-1")
    assert request.status.edge_node == ""
    assert "another machine" in request.status.conditions[-1].message
    assert world.registry.find(comer.cert_hash) < 0
    request = await answer(world, node_name="till-2")
    assert request.status.edge_node == "till-2"


async def test_people_can_bring_a_machine_in_without_a_key(world: World) -> None:
    comer = machine("SN")
    request = EnrollmentRequest(
        metadata=born("by-hand", NS, 0.0),
        spec=EnrollmentRequestSpec(serial="SN", device_certificate=comer.pem, approved=True),
    )
    await world.put(kinds.ENROLLMENT_REQUEST, request)
    assert world.registry.find(comer.cert_hash) >= 0
    assert (await world.node("sn")).status.fingerprint == comer.fingerprint


async def test_approvals_given_while_the_fleet_was_down_are_acted_on() -> None:
    store, clock, comer = MemoryStore(), VirtualClock(), machine("SN")
    async with running(store, clock) as world:
        key = await admit(world, approve=False)
        await world.enrollment.register(key, comer)
    (resource,) = (await store.list(kinds.ENROLLMENT_REQUEST)).values()
    approved = msgspec.structs.replace(
        resource.value, spec=msgspec.structs.replace(resource.value.spec, approved=True)
    )
    await store.put(kinds.ENROLLMENT_REQUEST, resource.key, approved)
    async with running(store, clock) as world:
        await settle()
        assert world.registry.find(comer.cert_hash) >= 0


@pytest.mark.parametrize(
    ("serial", "name"),
    [("ABC 12", "abc-12"), ("..--", None), ("", None), ("Ünï", "n"), ("x" * 300, "x" * 200)],
)
def test_names_are_made_from_serials_where_they_can(serial: str, name: str | None) -> None:
    made = machine(serial).name
    assert made == name if name else made.startswith("node-")
