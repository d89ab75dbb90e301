"""How far each node is believed: judged when it attests, and again when what is demanded changes.

A node that is not granted its config is *barred*: its token is worth nothing, so that its next
request is answered 403 and it attests anew, with a fresh quote. What it showed last is kept, for
people to read, and for judging it again when a policy, an OSImage or its labels change.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import msgspec

from edgevirt.fleet.attestation import eventlog, judging, shown
from edgevirt.fleet.attestation.judging import UNTRUSTED, Rules, Shown, Verdict
from edgevirt.fleet.nodes.devices import (
    DEVICE,
    DEVICE_TRUST,
    EVIDENCE,
    Device,
    DeviceTrust,
    Evidence,
    device_key,
)
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.registry import UNKNOWN, Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.software.attestation import AttestationPolicy, policies_for
from edgevirt.fleet.objects.software.os_image import OSImage
from edgevirt.runtime import Clock, Event, Gone, InStep, Kind, Store
from edgevirt.runtime.amend import amend, insist
from edgevirt.wire.event_log import Event as LogEvent
from edgevirt.wire.event_log import EventLogError
from edgevirt.wire.messages import certs

_KINDS: Final[tuple[Kind[Any], ...]] = (kinds.ATTESTATION_POLICY, kinds.OS_IMAGE)
_PACE: Final = 0.2
"""Seconds in which changes gather before nodes are judged by them."""
_TURNS: Final = 64
"""Machines that are judged side by side, at most."""


class Trust:
    """One per process. Nobody is judged before `in_step`: a policy that is not read yet would look
    like none.
    """

    def __init__(self, store: Store, registry: Registry, events: Recorder, clock: Clock) -> None:
        self.in_step = asyncio.Event()
        self._store = store
        self._registry = registry
        self._events = events
        self._clock = clock
        self._behind = {kind.name for kind in _KINDS}
        self._policies: dict[str, AttestationPolicy] = {}
        self._images: dict[str, OSImage] = {}
        self._marks: dict[str, int] = {}
        self._dirty: set[str] = set()
        """Namespaces whose rules changed."""
        self._changed: set[str] = set()
        """Keys of EdgeNodes that are chosen or accepted otherwise than before."""
        self._wake = asyncio.Event()
        self._nodes_known = False
        self._turns = tuple(asyncio.Lock() for _ in range(_TURNS))

    # -- following --

    async def follow(self) -> None:
        """Never returns. EdgeNodes come through `take`, as others want to hear of them too."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(kinds.ATTESTATION_POLICY, self._policies))
            group.create_task(self._follow(kinds.OS_IMAGE, self._images))
            group.create_task(self._judge_again())

    async def _follow(self, kind: Kind[Any], held: dict[str, Any]) -> None:
        async for event in self._store.watch(kind):
            if isinstance(event, InStep):
                self._behind.discard(kind.name)
                if not self._behind:
                    self.in_step.set()
                continue
            value = event.resource.value
            before = held.pop(event.resource.key, None)
            if not isinstance(event, Gone):
                held[event.resource.key] = value
            if before is None or isinstance(event, Gone) or before.spec != value.spec:
                self._dirty.add(value.metadata.namespace)
                self._wake.set()

    def take(self, event: Event[EdgeNode]) -> None:
        """What came before this process is judged with its policy, if that is anew."""
        if isinstance(event, InStep):
            self._nodes_known = True
            return
        node = event.resource.value
        if isinstance(event, Gone):
            self._marks.pop(node.key, None)
            return
        mark = _mark(node)
        before = self._marks.get(node.key, 0)
        if mark:
            self._marks[node.key] = mark
        elif before:
            del self._marks[node.key]
        if mark != before and self._nodes_known:
            self._changed.add(node.key)
            self._wake.set()

    def rules(self, namespace: str) -> Rules:
        """What a project demands."""
        return Rules(
            [p for p in self._policies.values() if p.metadata.namespace == namespace],
            [i for i in self._images.values() if i.metadata.namespace == namespace],
        )

    # -- judging --

    async def judge(self, row: int, evidence: Evidence | None) -> Verdict:
        """What a machine showed just now; None: it has no security module. What follows from it
        has been kept when this returns.
        """
        await self.in_step.wait()
        key = device_key(self._registry.node(row))
        async with self._turn(key):
            node = await self._node_of(row)
            verdict = await self._judge(node, key, evidence)
            if evidence is not None:
                await self._keep_evidence(key, evidence, verdict)
            await self._keep_pins(key, verdict)
            await self._bar(key, barred=not verdict.granted, renew=verdict.granted)
            await self._show(node.key, verdict, evidence, key)
            return verdict

    async def doubt(self, row: int, why: str) -> None:
        """What the machine showed proves nothing."""
        key = device_key(self._registry.node(row))
        async with self._turn(key):
            await self._bar(key, barred=True)
            verdict = Verdict(UNTRUSTED, "NotProven", why, granted=False)
            await self._show(self._registry.name(row), verdict, None, key)

    def _turn(self, key: str) -> asyncio.Lock:
        """A machine is judged by one thing at a time: else what it showed before could undo what
        follows from what it showed since.
        """
        return self._turns[hash(key) % _TURNS]

    async def _judge(self, node: EdgeNode, key: str, evidence: Evidence | None) -> Verdict:
        rules = self.rules(node.metadata.namespace)
        if evidence is None:
            return judging.judge_software(node, rules)
        held = await self._store.get(EVIDENCE, key)
        trust = await self._store.get(DEVICE_TRUST, key)
        return judging.judge_quote(
            node,
            rules,
            Shown(
                values=dict(evidence.values),
                pins=dict(trust.value.pins) if trust is not None else {},
                events=_events(evidence.log),
                accepted=_events(held.value.accepted) if held is not None else None,
            ),
        )

    # -- judging again --

    async def _judge_again(self) -> None:
        await self._registry.whole.wait()
        await self.in_step.wait()
        while True:
            await self._wake.wait()
            await self._clock.sleep(_PACE)
            self._wake.clear()
            dirty, changed = self._dirty.copy(), self._changed.copy()
            self._dirty.clear()
            self._changed.clear()
            for row in self._registry.rows():
                name = self._registry.name(row)
                if name in changed or name.partition("/")[0] in dirty:
                    await insist(self._clock, "trust", partial(self._judge_row, row, name))

    async def _judge_row(self, row: int, name: str) -> None:
        """By what the machine showed last. One that would be granted again shows anew by itself."""
        if self._registry.find_node(name) != row:
            return
        found = await self._store.get(kinds.EDGE_NODE, name)
        if found is None or not self._is_demanded(found.value):
            return
        key = device_key(self._registry.node(row))
        async with self._turn(key):
            await self._judge_by_last(found.value, key)

    async def _judge_by_last(self, node: EdgeNode, key: str) -> None:
        device = await self._store.get(DEVICE, key)
        if device is None or not device.value.attested or device.value.barred:
            return
        held = await self._store.get(EVIDENCE, key)
        evidence = held.value if held is not None else None
        if evidence is None and await self._can_quote(key):
            await self._bar(key, barred=True)  # what it showed was not kept: it shows it again
            return
        verdict = await self._judge(node, key, evidence)
        await self._keep_pins(key, verdict)
        await self._bar(key, barred=not verdict.granted)
        await self._show(node.key, verdict, evidence, key)

    def _is_demanded(self, node: EdgeNode) -> bool:
        """Whether a policy judges it, or did."""
        before = node.status.attestation
        if before is not None and before.policy:
            return True
        policies = self.rules(node.metadata.namespace).policies
        return bool(policies_for(policies, node.metadata.labels))

    async def _can_quote(self, key: str) -> bool:
        trust = await self._store.get(DEVICE_TRUST, key)
        role = certs.CERT_TYPE_DEVICE_RESTRICTED_SIGNING
        return trust is not None and any(cert.type == role for cert in trust.value.certs)

    # -- keeping --

    async def _node_of(self, row: int) -> EdgeNode:
        name = self._registry.name(row)
        found = await self._store.get(kinds.EDGE_NODE, name)
        if found is None:
            raise LookupError(f"EdgeNode {name} is gone")
        return found.value

    async def _keep_evidence(self, key: str, evidence: Evidence, verdict: Verdict) -> None:
        """With the log of the last time that it was accepted: what differs later is told by it."""

        def edit(present: Evidence | None) -> Evidence:
            accepted = present.accepted if present is not None else b""
            if verdict.granted and not verdict.differences:
                accepted = evidence.log
            return msgspec.structs.replace(evidence, accepted=accepted)

        await amend(self._store, EVIDENCE, key, edit)

    async def _keep_pins(self, key: str, verdict: Verdict) -> None:
        pins = tuple(sorted(verdict.pins.items()))

        def edit(present: DeviceTrust | None) -> DeviceTrust | None:
            trust = present or DeviceTrust()
            if trust.pins == pins or not pins:
                return None
            return msgspec.structs.replace(trust, pins=pins)

        await amend(self._store, DEVICE_TRUST, key, edit)

    async def _bar(self, key: str, *, barred: bool, renew: bool = False) -> None:
        """`renew`: the token before is worth nothing from now on."""

        def edit(present: Device | None) -> Device | None:
            if present is None or (present.barred == barred and not renew):
                return None
            attested = present.attested + 1 if renew else present.attested
            return msgspec.structs.replace(present, attested=attested, barred=barred)

        device = await amend(self._store, DEVICE, key, edit)
        if device is None:
            raise LookupError(f"machine {key} is gone")
        if self._registry.find(device.value.cert_hash) != UNKNOWN:
            self._registry.add(device.value)

    async def _show(self, name: str, verdict: Verdict, evidence: Evidence | None, key: str) -> None:
        now = self._clock.now()
        before: list[tuple[str, str]] = []

        def edit(node: EdgeNode | None) -> EdgeNode | None:
            if node is None:
                return None
            before[:] = [(node.status.trust, shown.reason(node))]
            after = shown.show(node, verdict, evidence, now)
            return after if shown.differs(node, after) else None

        changed = await amend(self._store, kinds.EDGE_NODE, name, edit)
        if changed is None or not before or before[0] == (verdict.level, verdict.why):
            return
        if verdict.level == UNTRUSTED:
            await self._events.tell(
                "EdgeNode", changed.value, "AttestationFailed", verdict.why, warning=True
            )
        elif before[0][0] == UNTRUSTED:
            await self._events.tell("EdgeNode", changed.value, "Attested", verdict.why)


def _mark(node: EdgeNode) -> int:
    """Of what decides how the node is judged; 0: nothing does."""
    chosen = (node.metadata.labels, node.spec.trusted_registers)
    return hash(msgspec.json.encode(chosen, order="sorted")) if any(chosen) else 0


def _events(packed: bytes) -> tuple[LogEvent, ...] | None:
    if not packed:
        return None
    try:
        return eventlog.unpack(packed)
    except EventLogError:
        return None
