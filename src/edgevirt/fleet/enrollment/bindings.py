"""The bond between a machine and its EdgeNode: what the store holds of it, made and undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from edgevirt.fleet.enrollment.waiting import Machine
from edgevirt.fleet.nodes.devices import (
    DEVICE,
    DEVICE_TRUST,
    EVIDENCE,
    SERIAL_CLAIM,
    Device,
    SerialClaim,
    claim_key,
    device_key,
    node_id,
)
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import Condition, born, set_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeSpec
from edgevirt.runtime import ABSENT, Clock, Conflict, Kind, Store
from edgevirt.runtime.amend import amend


class Bindings:
    """One per process. The registry hears of each before its machine is answered."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock

    async def claim(
        self,
        onboarding_hash: bytes,
        serial: str,
        machine: Machine,
        asks: Callable[[bytes], bool],
    ) -> bool:
        """Takes the serial for the machine. False: another one has it, which is a node or, as
        `asks` tells, waits to be one.
        """
        key, claim = claim_key(onboarding_hash, serial), SerialClaim(machine.cert_hash)
        try:
            await self._store.put(SERIAL_CLAIM, key, claim, expect=ABSENT)
        except Conflict:
            held = await self._store.get(SERIAL_CLAIM, key)
            if held is None or held.value == claim:
                return True
            other = held.value.cert_hash
            if self._registry.find(other) >= 0 or asks(other):
                return False
            await self._store.put(SERIAL_CLAIM, key, claim)  # the other one is gone
        return True

    async def make_node(
        self, namespace: str, name: str, machine: Machine, labels: dict[str, str]
    ) -> EdgeNode | None:
        """None when its names are taken by nodes of other machines."""
        base = name or machine.name
        for candidate in (base, f"{base[:200]}-{machine.fingerprint[:8]}"):
            node = EdgeNode(
                metadata=born(candidate, namespace, self._clock.now(), labels=labels),
                spec=EdgeNodeSpec(serial=machine.serial, soft_serial=machine.soft_serial),
            )
            try:
                return (await self._store.put(kinds.EDGE_NODE, node.key, node, expect=ABSENT)).value
            except Conflict:
                present = await self._store.get(kinds.EDGE_NODE, node.key)
                if present is not None and present.value.status.fingerprint in (
                    "",
                    machine.fingerprint,
                ):
                    return present.value
        return None

    async def bind(
        self, node: EdgeNode, machine: Machine, onboarding_hash: bytes, key_name: str
    ) -> EdgeNode | None:
        """None when the EdgeNode is another machine's. The status first: it decides a race."""
        now = self._clock.now()
        node_uuid = node_id(machine.cert_hash)
        enrolled = Condition(type="Enrolled", status="True", reason="Bound")

        def edit(present: EdgeNode | None) -> EdgeNode | None:
            if present is None or present.status.fingerprint not in ("", machine.fingerprint):
                return None
            status = msgspec.structs.replace(
                present.status,
                conditions=set_condition(present.status.conditions, enrolled, now),
                node_id=str(node_uuid),
                phase=present.status.phase or "Pending",
                device_certificate=machine.pem,
                fingerprint=machine.fingerprint,
                onboarding_key=key_name,
                enrolled_at=timestamp(now),
            )
            return msgspec.structs.replace(present, status=status)

        bound = await amend(self._store, kinds.EDGE_NODE, node.key, edit)
        if bound is None or bound.value.status.fingerprint != machine.fingerprint:
            return None
        device = Device(
            node=node_uuid.bytes,
            cert_hash=machine.cert_hash,
            key=machine.key,
            edge_node=node.key,
            uid=bound.value.metadata.uid,
            serial=machine.serial,
            soft_serial=machine.soft_serial,
            onboarding_hash=onboarding_hash,
        )
        await self._store.put(DEVICE, str(node_uuid), device)
        self._registry.add(device)
        return bound.value

    async def release(self, device: Device) -> None:
        """The machine is no node any more: what it sends is refused from now on. How far its
        configs were counted stays known: it may come in again with the last of them.
        """
        self._registry.remove(device)
        about: tuple[Kind[Any], ...] = (DEVICE, DEVICE_TRUST, EVIDENCE)
        for kind in about:
            await self._store.delete(kind, device_key(device.node))
        serials = device.serial, device.soft_serial
        await self.drop_claims(device.onboarding_hash, serials, device.cert_hash)

    async def drop_claims(
        self, onboarding_hash: bytes, serials: tuple[str, ...], cert_hash: bytes
    ) -> None:
        """So that machines with other certificates may come with these serials."""
        for serial in serials:
            key = claim_key(onboarding_hash, serial)
            held = await self._store.get(SERIAL_CLAIM, key)
            if held is not None and held.value.cert_hash == cert_hash:
                await self._store.delete(SERIAL_CLAIM, key)
