"""What a node tells of itself becomes its EdgeNode's status, and events where it matters."""

from __future__ import annotations

from typing import Final

import msgspec

from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.objects import NodeObjects
from edgevirt.fleet.nodes.registry import UNKNOWN, Registry
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import find_condition, object_key, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeStatus
from edgevirt.fleet.status import of_node, of_system
from edgevirt.fleet.status.of_system import Wanted
from edgevirt.runtime import Clock, Store
from edgevirt.wire.messages import info

_BARRED: Final = (
    "the node is barred, and offered this version alone; its condition Attested says why"
)
_TOLD_CONDITIONS: Final = ("PortsAsWanted", "VaultOpen")
"""Conditions of a node that are events when they come to be false, and true again."""


class NodeReports:
    """One per process."""

    def __init__(
        self,
        store: Store,
        objects: NodeObjects,
        registry: Registry,
        events: Recorder,
        clock: Clock,
    ) -> None:
        self._store = store
        self._objects = objects
        self._registry = registry
        self._events = events
        self._clock = clock

    async def take(self, edge_node: str, told: info.ZInfoDevice, at: float) -> None:
        """`at`: the node's time."""
        now = self._clock.now()
        wanted = await self._wanted_os(edge_node)
        before: list[EdgeNodeStatus] = []

        def edit(status: EdgeNodeStatus) -> EdgeNodeStatus:
            before[:] = [status]
            filled = of_node.fill(status, told, at, now, wanted)
            seen = self._seen(edge_node)
            return msgspec.structs.replace(filled, last_seen=timestamp(seen)) if seen else filled

        changed = await self._objects.amend_node(edge_node, edit)
        if changed is not None and before:
            await self._tell_of_node(changed.value, before[0])

    def _seen(self, edge_node: str) -> float:
        """When it was last heard of; it shows at no cost, where the status is written anyway."""
        row = self._registry.find_node(edge_node)
        return self._registry.seen(row) if row != UNKNOWN else 0.0

    async def _wanted_os(self, edge_node: str) -> Wanted | None:
        node = await self._store.get(kinds.EDGE_NODE, edge_node)
        if node is None or node.value.spec.os is None:
            return None
        spec = node.value.spec.os
        key = object_key(node.value.metadata.namespace, spec.image)
        image = await self._store.get(kinds.OS_IMAGE, key)
        if image is None:
            return Wanted(spec.image, spec.activate, f"OSImage {spec.image!r} does not exist")
        present, proof = node.value.status.os, node.value.status.attestation
        waiting = present.waiting if present is not None and present.waiting != _BARRED else ""
        if proof is not None and proof.barred:
            waiting = _BARRED
        return Wanted(image.value.spec.version, spec.activate, waiting)

    async def _tell_of_node(self, node: EdgeNode, before: EdgeNodeStatus) -> None:
        status = node.status
        if before.boot_time and status.boot_time and status.boot_time != before.boot_time:
            why = _why_booted(status)
            await self._events.tell("EdgeNode", node, "Rebooted", f"the node booted: {why}")
        for told in of_system.events(before.os, status.os):
            await self._events.tell(
                "EdgeNode", node, told.reason, told.message, warning=told.warning
            )
        for type_ in _TOLD_CONDITIONS:
            await self._tell_of_condition(node, before, type_)
        if status.phase == before.phase:
            return
        if status.phase == of_node.ERROR:
            why = _ready_message(status)
            await self._events.tell("EdgeNode", node, "Maintenance", why, warning=True)
        elif status.phase == of_node.ONLINE:
            await self._events.tell("EdgeNode", node, "Online", "the node reports")

    async def _tell_of_condition(self, node: EdgeNode, before: EdgeNodeStatus, type_: str) -> None:
        """That something of the node stopped being well, or is well again."""
        old = find_condition(before.conditions, type_)
        new = find_condition(node.status.conditions, type_)
        if new is None or (old is not None and old.status == new.status):
            return
        if new.status == "False":
            reason, warning = f"{type_}{new.reason}", True
        elif old is not None and old.status == "False" and new.status == "True":
            reason, warning = type_, False
        else:
            return
        await self._events.tell("EdgeNode", node, reason, new.message, warning=warning)


def _why_booted(status: EdgeNodeStatus) -> str:
    if status.reboot_reason and status.boot_reason:
        return f"{status.boot_reason}: {status.reboot_reason}"
    return status.reboot_reason or status.boot_reason or "for a reason that it does not tell"


def _ready_message(status: EdgeNodeStatus) -> str:
    ready = find_condition(status.conditions, "Ready")
    return ready.message if ready is not None else ""
