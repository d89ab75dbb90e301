"""Nodes are judged when they attest and when what is demanded changes, and never in between."""

from __future__ import annotations

import asyncio
import gzip
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from edgevirt.fleet.attestation.trust import Trust
from edgevirt.fleet.nodes.devices import (
    DEVICE,
    DEVICE_TRUST,
    EVIDENCE,
    Device,
    DeviceTrust,
    Evidence,
    HeldCert,
    device_key,
)
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import ObjectMeta, find_condition
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec
from edgevirt.fleet.objects.software.attestation import (
    Accepted,
    AttestationPolicy,
    AttestationPolicySpec,
    NodeSelector,
)
from edgevirt.runtime import InStep, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire import signatures
from edgevirt.wire.messages import certs
from tests.parts.device_client import Device as Machine
from tests.parts.measured import SoftwareTpm, boot, pack_log

OWN = {13: b"root image 1"}
GOOD, BAD = SoftwareTpm(boot(), OWN), SoftwareTpm(boot(), {13: b"tampered"})


class World:
    """One node of the project `shop`, with a security module, that has a token."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(history=1000)
        self.registry = Registry(lambda node, attested: b"%d" % attested)
        self.trust = Trust(self.store, self.registry, Recorder(self.store, self.clock), self.clock)
        machine = Machine("s")
        self.node = uuid.uuid4().bytes
        self.key = device_key(self.node)
        self.device = Device(
            node=self.node,
            cert_hash=machine.cert_hash,
            key=signatures.pack_key(machine.key.public_key()),
            edge_node="shop/till-1",
            uid="u",
        )

    async def start(self) -> None:
        role = certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING
        held = DeviceTrust(certs=(HeldCert(role, b"hash", b"pem"),))
        await self.store.put(DEVICE_TRUST, self.key, held)
        await self.store.put(DEVICE, self.key, self.device)
        self.row = self.registry.add(self.device)
        self.registry.whole.set()
        meta = ObjectMeta(name="till-1", namespace="shop", uid="u")
        await self.put_node(EdgeNode(metadata=meta, spec=EdgeNodeSpec(serial="s")))

    async def put_node(self, node: EdgeNode) -> None:
        await self.store.put(kinds.EDGE_NODE, node.key, node)

    async def status(self) -> Any:
        found = await self.store.get(kinds.EDGE_NODE, "shop/till-1")
        assert found is not None
        return found.value.status

    async def attest(self, tpm: SoftwareTpm) -> bool:
        """Whether it was granted."""
        values = tuple((n, tpm.registers[n]) for n in range(16))
        log = gzip.compress(pack_log(tpm.events))
        evidence = Evidence(self.clock.now(), b"quote", b"signature", values, log)
        return (await self.trust.judge(self.row, evidence)).granted

    async def demand(self, tpm: SoftwareTpm, namespace: str = "shop", **spec: Any) -> None:
        registers = {name: tuple(values) for name, values in tpm.hex(4, 9, 13).items()}
        given = {"accepted": (Accepted(name="os-1", registers=registers),), **spec}
        meta = ObjectMeta(name="policy", namespace=namespace)
        policy = AttestationPolicy(metadata=meta, spec=AttestationPolicySpec(**given))
        await self.store.put(kinds.ATTESTATION_POLICY, policy.key, policy)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await self.clock.advance(1.0)
        for _ in range(50):
            await asyncio.sleep(0)

    @property
    def token(self) -> bytes:
        return self.registry.token(self.row)

    async def events(self) -> set[str]:
        return {e.value.reason for e in (await self.store.list(kinds.EVENT)).values()}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    following = asyncio.create_task(world.trust.follow())
    yield world
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_nobody_is_judged_before_the_policies_are_read() -> None:
    world = World()
    await world.start()
    await world.demand(GOOD)
    judging = asyncio.create_task(world.attest(BAD))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not judging.done()
    following = asyncio.create_task(world.trust.follow())
    assert await judging is False
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_each_grant_makes_a_new_token_and_a_refusal_ends_it(world: World) -> None:
    await world.demand(GOOD)
    await world.settle()
    assert await world.attest(GOOD)
    first = world.token
    assert await world.attest(GOOD)
    assert first != world.token != b""
    assert not await world.attest(BAD)
    assert world.token == b""
    assert await world.attest(GOOD)
    assert world.token != b""
    assert {"AttestationFailed", "Attested"} <= await world.events()


async def test_a_new_demand_bars_who_does_not_meet_it(world: World) -> None:
    assert await world.attest(BAD)
    await world.demand(GOOD)
    await world.settle()
    assert world.token == b""
    status = await world.status()
    assert status.trust == "Untrusted"
    assert [d.register for d in status.attestation.differences] == [13]


async def test_what_a_node_showed_before_never_undoes_what_it_shows_now(world: World) -> None:
    """It is being judged again by its last quote while a new one comes, which is refused."""
    assert await world.attest(GOOD)
    held, go_on = asyncio.Event(), asyncio.Event()
    read: Any = world.store.get

    async def slow(kind: Any, key: str) -> Any:
        found = await read(kind, key)
        if kind is EVIDENCE and not held.is_set():
            held.set()
            await go_on.wait()
        return found

    world.store.get = slow  # type: ignore[method-assign]
    await world.demand(GOOD)
    await world.settle()
    assert held.is_set()
    showing = asyncio.create_task(world.attest(BAD))
    await world.settle()
    go_on.set()
    assert not await showing
    await world.settle()
    status = await world.status()
    assert (status.trust, status.attestation.barred) == ("Untrusted", True)
    assert (await read(DEVICE, world.key)).value.barred


async def test_a_demand_of_another_project_is_none(world: World) -> None:
    assert await world.attest(BAD)
    await world.demand(GOOD, namespace="other")
    await world.settle()
    assert world.token != b""


async def test_a_demand_that_ends_lets_nobody_in_without_a_fresh_quote(world: World) -> None:
    await world.demand(GOOD)
    await world.settle()
    assert not await world.attest(BAD)
    await world.store.delete(kinds.ATTESTATION_POLICY, "shop/policy")
    await world.settle()
    assert world.token == b""
    assert await world.attest(BAD)


async def test_labels_bring_a_node_under_another_policy(world: World) -> None:
    await world.demand(GOOD, node_selector=NodeSelector(match_labels={"site": "berlin"}))
    await world.settle()
    assert await world.attest(BAD)
    found = await world.store.get(kinds.EDGE_NODE, "shop/till-1")
    assert found is not None
    meta = msgspec.structs.replace(found.value.metadata, labels={"site": "berlin"})
    await world.put_node(msgspec.structs.replace(found.value, metadata=meta))
    event = await anext(world.store.watch(kinds.EDGE_NODE))
    world.trust.take(InStep(0))
    world.trust.take(event)
    await world.settle()
    assert world.token == b""


async def test_a_node_whose_proof_was_not_kept_shows_it_again(world: World) -> None:
    assert await world.attest(GOOD)
    await world.store.delete(EVIDENCE, world.key)
    await world.demand(GOOD)
    await world.settle()
    assert world.token == b""
    assert await world.attest(GOOD)


async def test_a_node_that_is_refused_again_and_again_costs_no_writes(world: World) -> None:
    await world.demand(GOOD)
    await world.settle()
    assert not await world.attest(BAD)
    before = await world.store.get(kinds.EDGE_NODE, "shop/till-1")
    device = await world.store.get(DEVICE, world.key)
    await world.clock.advance(15.0)
    assert not await world.attest(BAD)
    after = await world.store.get(kinds.EDGE_NODE, "shop/till-1")
    assert before == after
    assert await world.store.get(DEVICE, world.key) == device


async def test_what_proves_nothing_keeps_what_was_proved_in_sight(world: World) -> None:
    assert await world.attest(GOOD)
    proof = (await world.status()).attestation
    await world.trust.doubt(world.row, "cannot trust quote: it is forged")
    status = await world.status()
    assert status.trust == "Untrusted"
    assert status.attestation == msgspec.structs.replace(proof, barred=True)
    condition = find_condition(status.conditions, "Attested")
    assert condition is not None
    assert condition.message == "cannot trust quote: it is forged"
    assert world.token == b""


async def test_a_machine_that_just_went_is_told_to_come_later(world: World) -> None:
    await world.store.delete(kinds.EDGE_NODE, "shop/till-1")
    with pytest.raises(LookupError):
        await world.attest(GOOD)
