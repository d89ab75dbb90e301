"""What a node tells of apps, and of what they are made of, becomes the status of their objects."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import msgspec

from edgevirt.fleet import render
from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.objects import NodeObjects, Place
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceStatus
from edgevirt.fleet.objects.base.object import find_condition, object_key
from edgevirt.fleet.objects.network_instance import NetworkInstance, NetworkOnNode
from edgevirt.fleet.objects.node.edgenode import AppSummary
from edgevirt.fleet.render import volumes
from edgevirt.fleet.status import of_app, of_volume
from edgevirt.runtime import Clock, Store
from edgevirt.runtime.amend import amend
from edgevirt.wire.messages import info

_NETWORKS_SHOWN: Final = 100
"""Nodes that a NetworkInstance's status names; enough for people, and a bound for the object."""
_NETWORK_STATES: Final = {1: "Init", 2: "Online", 3: "Error"}
_TELLING: Final = frozenset({"RUNNING", "HALTED", "FAILED", "BOOTING", "HALTING"})
"""States of an app that are worth an event."""


class AppReports:
    """One per process. `edge_node`: the key of the node's EdgeNode."""

    def __init__(
        self,
        store: Store,
        objects: NodeObjects,
        dependencies: Dependencies,
        events: Recorder,
        clock: Clock,
    ) -> None:
        self._store = store
        self._objects = objects
        self._dependencies = dependencies
        self._events = events
        self._clock = clock

    async def take_app(self, edge_node: str, told: info.ZInfoApp) -> None:
        place = await self._objects.place_of(edge_node, lambda i: i.metadata.uid == told.AppID)
        if place is None:
            return  # no longer wanted; the node will see it in its config
        url, runs_as = await self._seen_at(edge_node, place.instance)
        app = await self._objects.app_of(place.instance)
        now = self._clock.now()

        def edit(status: AppInstanceStatus) -> AppInstanceStatus:
            filled = of_app.fill(status, told, now)
            filled = of_app.compare(filled, place.instance, app)
            shown = url if told.state else ""
            return of_app.starting(msgspec.structs.replace(filled, url=shown, runs_as=runs_as))

        changed = await self._objects.amend_app(place.key, edit)
        if changed is None:
            return
        before, after = place.instance.status, changed.value.status
        moved = after.state != before.state
        went_wrong = bool(after.errors) and not before.errors
        if moved or bool(after.errors) != bool(before.errors):
            await self._sum_up(edge_node)
        if (moved and after.state in _TELLING) or went_wrong:
            await self._tell_of_app(changed.value)

    async def _tell_of_app(self, instance: AppInstance) -> None:
        status = instance.status
        worst = next((e for e in status.errors if e.severity != "Notice"), None)
        reason = "Failed" if worst else status.state.title().replace("_", "")
        if not worst and status.state == "HALTED":
            worst = next(iter(status.errors), None)  # it was not asked to end
        message = worst.message if worst else status.what
        await self._events.tell("AppInstance", instance, reason, message, warning=bool(worst))

    async def take_volume(self, edge_node: str, told: info.ZInfoVolume) -> None:
        for volume in await self._objects.volumes(edge_node):
            if volumes.volume_id(volume) == told.uuid:
                edit = partial(of_volume.fill, told=told, now=self._clock.now())
                await self._objects.amend_volume(volume, edit)
                return
        for place in await self._objects.places(edge_node):
            name = await self._volume_name(place, told.uuid)
            if name:
                await self._objects.amend_app(
                    place.key, partial(of_app.fill_volume, name=name, told=told)
                )

    async def _volume_name(self, place: Place, uuid: str) -> str:
        if render.volume_id(place.instance, render.ROOT) == uuid:
            return render.ROOT
        app = await self._objects.app_of(place.instance)
        for volume in app.spec.volumes if app is not None else ():
            if render.volume_id(place.instance, volume.name) == uuid:
                return volume.name
        return ""

    async def take_image(self, edge_node: str, told: info.ZInfoContentTree) -> None:
        for place in await self._objects.places(edge_node):
            app = await self._objects.app_of(place.instance)
            if app is None:
                continue
            for name in app.images:
                key = object_key(place.instance.metadata.namespace, name)
                image = await self._store.get(kinds.IMAGE, key)
                if image is not None and image.value.metadata.uid == told.uuid:
                    now = self._clock.now()
                    edit = partial(of_app.fill_image, told=told, now=now)
                    changed = await self._objects.amend_app(place.key, edit)
                    if changed is not None:
                        await self._tell_of_image(changed.value, place.instance)

    async def _tell_of_image(self, instance: AppInstance, before: AppInstance) -> None:
        """An app that runs says nothing of an image that it cannot change to."""
        old = find_condition(before.status.conditions, of_app.IMAGE_READY)
        new = find_condition(instance.status.conditions, of_app.IMAGE_READY)
        failed = new is not None and new.reason == "Failed"
        if new is not None and failed and (old is None or old.message != new.message):
            await self._events.tell(
                "AppInstance", instance, "ImageFailed", new.message, warning=True
            )

    async def take_network(self, edge_node: str, told: info.ZInfoNetworkInstance) -> None:
        node = await self._store.get(kinds.EDGE_NODE, edge_node)
        if node is None:
            return
        for kind, key in self._dependencies.items_of(edge_node):
            if kind != "NetworkInstance":
                continue
            found = await self._store.get(kinds.NETWORK_INSTANCE, key)
            if found is not None and render.network_id(found.value, node.value) == told.networkID:
                name = node.value.metadata.name
                edit = partial(_with_node, edge_node=name, told=told)
                await amend(self._store, kinds.NETWORK_INSTANCE, key, edit)

    async def _sum_up(self, edge_node: str) -> None:
        statuses = [place.instance.status for place in await self._objects.places(edge_node)]
        summary = AppSummary(
            total=len(statuses),
            running=sum(status.state == of_app.RUNNING for status in statuses),
            failed=sum(
                status.state == "FAILED" or any(e.severity == "Error" for e in status.errors)
                for status in statuses
            ),
        )
        await self._objects.amend_node(
            edge_node, lambda s: msgspec.structs.replace(s, apps=summary)
        )

    async def _seen_at(self, edge_node: str, instance: AppInstance) -> tuple[str, str]:
        """Its URL, and what it runs as."""
        app = await self._objects.app_of(instance)
        node = await self._store.get(kinds.EDGE_NODE, edge_node)
        if app is None or node is None:
            return "", ""
        status = node.value.status
        kind = of_app.runs_as(app, status.virtualization)
        return of_app.url_of(app, status.addresses), kind


def _with_node(
    network: NetworkInstance | None, edge_node: str, told: info.ZInfoNetworkInstance
) -> NetworkInstance | None:
    if network is None:
        return None
    others = tuple(_others(network, edge_node))
    state = _NETWORK_STATES.get(told.state, "")
    if not state:
        nodes = others
    elif len(others) >= _NETWORKS_SHOWN:
        return None
    else:
        shown = NetworkOnNode(
            edge_node=edge_node,
            state=state,
            bridge=told.bridgeName,
            message="; ".join(e.description for e in told.networkErr if e.description)[:500],
        )
        nodes = tuple(sorted((*others, shown), key=lambda n: n.edge_node))
    status = msgspec.structs.replace(network.status, nodes=nodes)
    return msgspec.structs.replace(network, status=status)


def _others(network: NetworkInstance, edge_node: str) -> Iterator[NetworkOnNode]:
    return (node for node in network.status.nodes if node.edge_node != edge_node)
