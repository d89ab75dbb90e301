"""How a machine becomes a node: it shows an onboarding certificate, people or rules let it in.

A machine is bound to an EdgeNode by its own certificate. The EdgeNode is one that waits for its
serial number, or a new one where the OnboardingKey approves by itself; otherwise an
EnrollmentRequest waits for people. The binding is the Device in the store; what the EdgeNode's
status shows of it is for people.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec

from edgevirt.fleet.enrollment.bindings import Bindings
from edgevirt.fleet.enrollment.waiting import (
    Machine,
    OpenKeys,
    Outcome,
    Places,
    Requests,
    machine_of,
)
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.devices import DEVICE, device_key
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import (
    Condition,
    LocalRef,
    born,
    object_key,
    set_condition,
    timestamp,
)
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.onboarding import (
    EnrollmentRequest,
    EnrollmentRequestSpec,
    EnrollmentRequestStatus,
    OnboardingKey,
)
from edgevirt.runtime import ABSENT, Clock, Event, Gone, InStep, Kind, Put, Store
from edgevirt.runtime.amend import amend, insist


class Enrollment:
    """One per process; registrations go one after the other, as they are rare."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        dependencies: Dependencies,
        events: Recorder,
        clock: Clock,
    ) -> None:
        """`dependencies` must hear of EdgeNodes before this does."""
        self._store = store
        self._dependencies = dependencies
        self._registry = registry
        self._events = events
        self._clock = clock
        self._bindings = Bindings(store, registry, clock)
        self._keys = OpenKeys()
        self._nodes = Places()
        self._requests = Requests()
        self._lock = asyncio.Lock()
        self._behind = {"OnboardingKey", "EnrollmentRequest", "EdgeNode"}
        self.in_step = asyncio.Event()

    # -- what machines ask for --

    async def register(self, onboarding_hash: bytes, machine: Machine) -> Outcome:
        """`onboarding_hash`: SHA-256 of the DER of the certificate that signed the request."""
        granted = self._keys.find(onboarding_hash, machine)
        if granted is None:
            return Outcome.REFUSED
        key, serial = granted
        async with self._lock:
            if self._registry.find(machine.cert_hash) >= 0:
                return Outcome.REPEATED
            if not await self._bindings.claim(onboarding_hash, serial, machine, self.asks):
                return Outcome.TAKEN
            namespace = key.metadata.namespace
            node = await self._find_node(namespace, machine, key.metadata.name)
            if node is None and key.spec.auto_approve:
                node = await self._bindings.make_node(namespace, "", machine, key.spec.node_labels)
                if node is None:
                    return Outcome.TAKEN
            if node is None:
                return await self._request(key, machine)
            if not await self._bind(node, machine, onboarding_hash, key.metadata.name):
                return Outcome.TAKEN
            await self._count_use(key.key)
            return Outcome.NEW

    def asks(self, cert_hash: bytes) -> bool:
        """Whether the machine with this certificate (32 bytes) waits to be let in."""
        return self._requests.asks(cert_hash)

    # -- following the store --

    async def follow(self) -> None:
        """Never returns. Acts on approvals; EdgeNodes come through `take_node`."""
        async with asyncio.TaskGroup() as group:
            for kind, put, gone in (
                (kinds.ONBOARDING_KEY, self._put_key, self._gone_key),
                (kinds.ENROLLMENT_REQUEST, self._put_request, self._gone_request),
            ):
                group.create_task(self._follow(kind, put, gone))

    async def _follow(self, kind: Any, put: Any, gone: Any) -> None:
        await self._registry.whole.wait()
        async for event in self._store.watch(kind):
            if isinstance(event, InStep):
                self._now_in_step(kind)
            else:
                act = gone if isinstance(event, Gone) else put
                await insist(self._clock, "enrolment", partial(act, event.resource.value))

    async def take_node(self, event: Event[EdgeNode]) -> None:
        """Every EdgeNode that comes, changes and goes, once the registry is whole."""
        if isinstance(event, InStep):
            await insist(self._clock, "enrolment", self.sweep)
            self._now_in_step(kinds.EDGE_NODE)
        elif not self._is_settled(event):
            act = self._gone_node if isinstance(event, Gone) else self._put_node
            await insist(self._clock, "enrolment", partial(act, event.resource.value))

    async def sweep(self) -> None:
        """Lets machines go whose EdgeNode went unseen, while the fleet was down for instance."""
        for row in self._registry.rows():
            name, node = self._registry.name(row), self._registry.node(row)
            if name and not self._dependencies.exists("EdgeNode", name):
                held = await self._store.get(DEVICE, device_key(node))
                if held is not None and await self._store.get(kinds.EDGE_NODE, name) is None:
                    await self._bindings.release(held.value)

    def _is_settled(self, event: Put[EdgeNode] | Gone[EdgeNode]) -> bool:
        """Bound, and told so: what nearly all are at a start."""
        return (
            isinstance(event, Put)
            and bool(event.resource.value.status.node_id)
            and self._registry.find_node(event.resource.key) >= 0
            and not self._nodes.has(event.resource.key)
        )

    def _now_in_step(self, kind: Kind[Any]) -> None:
        self._behind.discard(kind.name)
        if not self._behind:
            self.in_step.set()

    async def _put_key(self, key: OnboardingKey) -> None:
        """One that is being deleted lets nobody in, even while an EdgeNode still names it."""
        if key.metadata.deletion_timestamp is None:
            self._keys.put(key)
        else:
            self._keys.drop(key)

    async def _gone_key(self, key: OnboardingKey) -> None:
        self._keys.drop(key)

    async def _put_node(self, node: EdgeNode) -> None:
        row = self._registry.find_node(node.key)
        if row >= 0 and not node.status.node_id:
            held = await self._store.get(DEVICE, device_key(self._registry.node(row)))
            if held is not None and held.value.uid != node.metadata.uid:
                await self._bindings.release(held.value)  # of an earlier EdgeNode of this name
                row = -1
        if row >= 0:
            self._nodes.drop(node.key)
            return
        self._nodes.put(node.key, node.metadata.namespace, node.spec.serial, node.spec.soft_serial)
        for name in self._requests.for_node(node):
            await self._admit_to(name, node)

    async def _gone_node(self, node: EdgeNode) -> None:
        self._nodes.drop(node.key)
        if node.status.node_id:
            held = await self._store.get(DEVICE, node.status.node_id)
            if held is not None and held.value.uid == node.metadata.uid:
                await self._bindings.release(held.value)

    async def _put_request(self, request: EnrollmentRequest) -> None:
        machine = machine_of(request)
        if machine is None or request.status.edge_node:
            self._requests.drop(request.key)
            return
        self._requests.put(request.key, request.metadata.namespace, machine)
        if request.spec.approved:
            await self._admit(request, machine)
        elif request.spec.approved is False:
            await self._answer(request.key, "Denied", "people denied it")

    async def _gone_request(self, request: EnrollmentRequest) -> None:
        self._requests.drop(request.key)
        machine = machine_of(request)
        if machine is not None and not request.status.edge_node:
            await self._bindings.drop_claims(
                self._hash_of_key(request), machine.serials, machine.cert_hash
            )

    # -- letting in --

    async def _admit(self, request: EnrollmentRequest, machine: Machine) -> None:
        """People approved it."""
        namespace, wanted = request.metadata.namespace, request.spec.node_name
        ref = request.spec.onboarding_key_ref
        async with self._lock:
            if self._registry.find(machine.cert_hash) >= 0:
                await self._answer(request.key, "Approved", "the machine is a node already")
                return
            node: EdgeNode | None
            if wanted:
                named = await self._store.get(kinds.EDGE_NODE, object_key(namespace, wanted))
                node = named.value if named is not None else None
            else:
                node = await self._find_node(namespace, machine, ref.name if ref else "")
            if node is None:
                labels = request.spec.node_labels
                node = await self._bindings.make_node(namespace, wanted, machine, labels)
            if node is None:
                why = "an EdgeNode of that name belongs to another machine"
                await self._answer(request.key, "Approved", why, reason="Taken")
                return
            await self._bind_request(request, node, machine)

    async def _admit_to(self, name: str, node: EdgeNode) -> None:
        """An EdgeNode for a machine that has already asked is an answer."""
        found = await self._store.get(kinds.ENROLLMENT_REQUEST, name)
        machine = machine_of(found.value) if found is not None else None
        if found is None or machine is None or found.value.spec.approved is not None:
            return
        async with self._lock:
            taken = self._registry.find_node(node.key) >= 0
            if not taken and self._registry.find(machine.cert_hash) < 0:
                await self._bind_request(found.value, node, machine)

    async def _bind_request(
        self, request: EnrollmentRequest, node: EdgeNode, machine: Machine
    ) -> None:
        ref = request.spec.onboarding_key_ref
        key_name = ref.name if ref else ""
        if await self._bind(node, machine, self._hash_of_key(request), key_name):
            await self._answer(request.key, "Approved", "", node=node.metadata.name)
            if ref is not None:
                await self._count_use(object_key(request.metadata.namespace, ref.name))
        else:
            why = f"EdgeNode {node.metadata.name!r} belongs to another machine"
            await self._answer(request.key, "Approved", why, reason="Taken")

    def _hash_of_key(self, request: EnrollmentRequest) -> bytes:
        ref = request.spec.onboarding_key_ref
        if ref is None:
            return b""
        return self._keys.hash_of(object_key(request.metadata.namespace, ref.name))

    async def _answer(
        self, name: str, answer: str, message: str, *, reason: str = "", node: str = ""
    ) -> None:
        now = self._clock.now()

        def edit(present: EnrollmentRequest | None) -> EnrollmentRequest | None:
            if present is None:
                return None
            conditions = present.status.conditions
            for type_, true in ((answer, True), ("Enrolled", bool(node))):
                told = Condition(
                    type=type_,
                    status="True" if true else "False",
                    reason=reason or answer,
                    message=message,
                )
                conditions = set_condition(conditions, told, now)
            machine = machine_of(present)
            status = msgspec.structs.replace(
                present.status,
                conditions=conditions,
                edge_node=node or present.status.edge_node,
                fingerprint=machine.fingerprint if machine else "",
            )
            return msgspec.structs.replace(present, status=status)

        await amend(self._store, kinds.ENROLLMENT_REQUEST, name, edit)

    async def _find_node(self, namespace: str, machine: Machine, key_name: str) -> EdgeNode | None:
        """An EdgeNode that waits for this serial and, if it says so, for this key."""
        for name in self._nodes.find(namespace, *machine.serials):
            found = await self._store.get(kinds.EDGE_NODE, name)
            if found is None or self._registry.find_node(name) >= 0:
                continue
            ref = found.value.spec.onboarding_key_ref
            if ref is None or ref.name == key_name:
                return found.value
        return None

    async def _bind(
        self, node: EdgeNode, machine: Machine, onboarding_hash: bytes, key_name: str
    ) -> bool:
        """False when the EdgeNode is another machine's."""
        bound = await self._bindings.bind(node, machine, onboarding_hash, key_name)
        if bound is None:
            return False
        self._nodes.drop(node.key)
        serials = "/".join(dict.fromkeys(machine.serials)) or "(none)"
        why = f"the machine with serial {serials} is this node now"
        await self._events.tell("EdgeNode", bound, "Enrolled", why)
        return True

    async def _request(self, key: OnboardingKey, machine: Machine) -> Outcome:
        now = self._clock.now()
        namespace = key.metadata.namespace
        name = f"{machine.name}-{machine.fingerprint[:8]}"
        asked = EnrollmentRequest(
            metadata=born(name, namespace, now),
            spec=EnrollmentRequestSpec(
                serial=machine.serial,
                soft_serial=machine.soft_serial,
                device_certificate=machine.pem,
                onboarding_key_ref=LocalRef(name=key.metadata.name),
                node_labels=key.spec.node_labels,
            ),
            status=EnrollmentRequestStatus(
                fingerprint=machine.fingerprint, last_seen=timestamp(now)
            ),
        )
        present = await self._store.get(kinds.ENROLLMENT_REQUEST, asked.key)
        if present is None:
            await self._store.put(kinds.ENROLLMENT_REQUEST, asked.key, asked, expect=ABSENT)
            self._requests.put(asked.key, namespace, machine)
            return Outcome.NEW
        return Outcome.REFUSED if present.value.spec.approved is False else Outcome.REPEATED

    async def _count_use(self, key: str) -> None:
        now = self._clock.now()

        def edit(present: OnboardingKey | None) -> OnboardingKey | None:
            if present is None:
                return None
            status = msgspec.structs.replace(
                present.status, uses=present.status.uses + 1, last_used=timestamp(now)
            )
            return msgspec.structs.replace(present, status=status)

        await amend(self._store, kinds.ONBOARDING_KEY, key, edit)
