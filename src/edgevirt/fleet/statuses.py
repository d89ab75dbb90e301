"""The road home: what nodes report becomes the status of objects, and events where it matters.

It reads info from telemetry, behind its own mark, so that a slow status never delays a node, and a
restart goes on where it was. A report that is older than one on the same thing changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

import msgspec
from google.protobuf.message import DecodeError

from edgevirt.fleet import app_status, node_status, os_status, render, volume_status
from edgevirt.fleet.amend import amend, insist
from edgevirt.fleet.configs import CONFIG_VERSION, ConfigVersion
from edgevirt.fleet.dependencies import Dependencies
from edgevirt.fleet.device.registry import Registry
from edgevirt.fleet.devices import device_key
from edgevirt.fleet.events import Recorder
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.app import App
from edgevirt.fleet.objects.app_instance import AppInstance, AppInstanceStatus
from edgevirt.fleet.objects.base import Condition, find_condition, object_key, set_condition
from edgevirt.fleet.objects.edgenode import AppSummary, EdgeNode, EdgeNodeStatus
from edgevirt.fleet.objects.network_instance import NetworkInstance, NetworkOnNode
from edgevirt.fleet.objects.volume import Volume, VolumeStatus
from edgevirt.fleet.os_status import Wanted
from edgevirt.fleet.render import Objects, Rendered, volumes
from edgevirt.fleet.telemetry import Record, Stream, Telemetry
from edgevirt.runtime import Clock, Resource, Store
from edgevirt.wire.messages import info

_MARK: Final = "status"
_PACE: Final = 0.05
"""Seconds in which reports gather: many at once cost less, and what was overtaken costs nothing."""
_AT_ONCE: Final = 32
"""Nodes whose reports are taken in side by side."""
_NETWORKS_SHOWN: Final = 100
"""Nodes that a NetworkInstance's status names; enough for people, and a bound for the object."""
_NETWORK_STATES: Final = {1: "Init", 2: "Online", 3: "Error"}
_BARRED: Final = (
    "the node is barred, and offered this version alone; its condition Attested says why"
)
_TOLD_CONDITIONS: Final = ("PortsAsWanted", "VaultOpen")
"""Conditions of a node that are events when they come to be false, and true again."""
_TELLING: Final = frozenset({"RUNNING", "HALTED", "FAILED", "BOOTING", "HALTING"})
"""States of an app that are worth an event."""


class Place(NamedTuple):
    """An AppInstance, and the app that it runs."""

    key: str
    instance: AppInstance


class _Told(NamedTuple):
    """`at`: the node's time."""

    message: info.ZInfoMsg
    at: float


class Statuses:
    """One per process."""

    def __init__(
        self,
        store: Store,
        telemetry: Telemetry,
        registry: Registry,
        dependencies: Dependencies,
        events: Recorder,
        clock: Clock,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._registry = registry
        self._dependencies = dependencies
        self._events = events
        self._clock = clock
        self._taken: asyncio.Queue[int] = asyncio.Queue()
        registry.on_current = self._taken.put_nowait

    # -- what nodes report --

    async def follow(self) -> None:
        """Never returns."""
        await self._registry.whole.wait()
        mark = await self._telemetry.read_mark(_MARK)
        async for news in self._telemetry.news(Stream.INFO, after=mark):
            if news.records:
                await insist(self._clock, "statuses", partial(self._take_all, news.records))
            self._telemetry.set_mark(_MARK, news.upto)
            await self._clock.sleep(_PACE)

    async def _take_all(self, records: Iterable[Record]) -> None:
        by_node: dict[str, list[_Told]] = {}
        for record in records:
            row = self._registry.find_machine(record.node)
            if row < 0:
                continue  # it was deleted after it had reported
            name = self._registry.name(row)
            try:
                message = info.ZInfoMsg.FromString(record.payload)
            except DecodeError:
                continue  # was readable when it came: another version of this program took it
            if self._matters(name, message):
                by_node.setdefault(name, []).append(_Told(message, record.at))
        room = asyncio.Semaphore(_AT_ONCE)
        if by_node:
            await asyncio.gather(*(self._take_of(n, told, room) for n, told in by_node.items()))

    def _matters(self, edge_node: str, message: info.ZInfoMsg) -> bool:
        content = message.WhichOneof("InfoContent")
        if content == "vinfo" and self._dependencies.volumes_of(edge_node):
            return True
        if content in ("ainfo", "vinfo", "cinfo", "niinfo"):
            return bool(self._dependencies.instances_of(edge_node))
        return bool(content == "dinfo")

    async def _take_of(
        self, edge_node: str, told: Iterable[_Told], room: asyncio.Semaphore
    ) -> None:
        async with room:
            for message, at in told:
                await self._take(edge_node, message, at)

    async def _take(self, edge_node: str, message: info.ZInfoMsg, at: float) -> None:
        content = message.WhichOneof("InfoContent")
        if content == "dinfo":
            await self._take_device(edge_node, message.dinfo, at)
        elif content == "ainfo":
            await self._take_app(edge_node, message.ainfo)
        elif content == "vinfo":
            await self._take_volume(edge_node, message.vinfo)
        elif content == "cinfo":
            await self._take_image(edge_node, message.cinfo)
        elif content == "niinfo":
            await self._take_network(edge_node, message.niinfo)

    # -- nodes --

    async def _take_device(self, edge_node: str, told: info.ZInfoDevice, at: float) -> None:
        now = self._clock.now()
        wanted = await self._wanted_os(edge_node)
        before: list[EdgeNodeStatus] = []

        def edit(status: EdgeNodeStatus) -> EdgeNodeStatus:
            before[:] = [status]
            return node_status.fill(status, told, at, now, wanted)

        changed = await self.amend_node(edge_node, edit)
        if changed is not None and before:
            await self._tell_of_node(changed.value, before[0])

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

    async def amend_node(
        self, edge_node: str, edit: Callable[[EdgeNodeStatus], EdgeNodeStatus]
    ) -> Resource[EdgeNode] | None:
        """None when there is no such node."""
        return await amend(
            self._store,
            kinds.EDGE_NODE,
            edge_node,
            lambda node: msgspec.structs.replace(node, status=edit(node.status)) if node else None,
        )

    async def _tell_of_node(self, node: EdgeNode, before: EdgeNodeStatus) -> None:
        status = node.status
        if before.boot_time and status.boot_time and status.boot_time != before.boot_time:
            why = _why_booted(status)
            await self._events.tell("EdgeNode", node, "Rebooted", f"the node booted: {why}")
        for told in os_status.events(before.os, status.os):
            await self._events.tell(
                "EdgeNode", node, told.reason, told.message, warning=told.warning
            )
        for type_ in _TOLD_CONDITIONS:
            await self._tell_of_condition(node, before, type_)
        if status.phase == before.phase:
            return
        if status.phase == node_status.ERROR:
            why = _message(status.conditions, "Ready")
            await self._events.tell("EdgeNode", node, "Maintenance", why, warning=True)
        elif status.phase == node_status.ONLINE:
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

    # -- apps --

    async def _take_app(self, edge_node: str, told: info.ZInfoApp) -> None:
        place = await self._place_of(edge_node, lambda i: i.metadata.uid == told.AppID)
        if place is None:
            return  # no longer wanted; the node will see it in its config
        url, runs_as = await self._seen_at(edge_node, place.instance)
        app = await self._app_of(place.instance)
        now = self._clock.now()

        def edit(status: AppInstanceStatus) -> AppInstanceStatus:
            filled = app_status.fill(status, told, now)
            filled = app_status.compare(filled, place.instance, app)
            shown = url if told.state else ""
            return app_status.starting(msgspec.structs.replace(filled, url=shown, runs_as=runs_as))

        changed = await self._amend_app(place.key, edit)
        if changed is None:
            return
        before, after = place.instance.status, changed.value.status
        if after.state != before.state:
            await self._sum_up(edge_node)
            if after.state in _TELLING:
                await self._tell_of_app(changed.value)
        elif bool(after.errors) != bool(before.errors):
            await self._sum_up(edge_node)
            if after.errors:
                await self._tell_of_app(changed.value)

    async def _tell_of_app(self, instance: AppInstance) -> None:
        status = instance.status
        worst = next((e for e in status.errors if e.severity != "Notice"), None)
        reason = "Failed" if worst else status.state.capitalize()
        message = worst.message if worst else status.what
        await self._events.tell("AppInstance", instance, reason, message, warning=bool(worst))

    async def _take_volume(self, edge_node: str, told: info.ZInfoVolume) -> None:
        for volume in await self._volumes(edge_node):
            if volumes.volume_id(volume) == told.uuid:
                edit = partial(volume_status.fill, told=told, now=self._clock.now())
                await self._amend_volume(volume, edit)
                return
        for place in await self._places(edge_node):
            name = await self._volume_name(place, told.uuid)
            if name:
                await self._amend_app(
                    place.key, partial(app_status.fill_volume, name=name, told=told)
                )

    async def _volume_name(self, place: Place, uuid: str) -> str:
        if render.volume_id(place.instance, render.ROOT) == uuid:
            return render.ROOT
        app = await self._app_of(place.instance)
        for volume in app.spec.volumes if app is not None else ():
            if render.volume_id(place.instance, volume.name) == uuid:
                return volume.name
        return ""

    async def _amend_volume(
        self, volume: Volume, edit: Callable[[VolumeStatus], VolumeStatus]
    ) -> None:
        """It may have become another one of the same name meanwhile."""

        def change(present: Volume | None) -> Volume | None:
            if present is None or present.metadata.uid != volume.metadata.uid:
                return None
            return msgspec.structs.replace(present, status=edit(present.status))

        await amend(self._store, kinds.VOLUME, volume.key, change)

    async def _take_image(self, edge_node: str, told: info.ZInfoContentTree) -> None:
        for place in await self._places(edge_node):
            app = await self._app_of(place.instance)
            if app is None:
                continue
            for name in app.images:
                key = object_key(place.instance.metadata.namespace, name)
                image = await self._store.get(kinds.IMAGE, key)
                if image is not None and image.value.metadata.uid == told.uuid:
                    now = self._clock.now()
                    edit = partial(app_status.fill_image, told=told, now=now)
                    changed = await self._amend_app(place.key, edit)
                    if changed is not None:
                        await self._tell_of_image(changed.value, place.instance)

    async def _tell_of_image(self, instance: AppInstance, before: AppInstance) -> None:
        """An app that runs says nothing of an image that it cannot change to."""
        old = find_condition(before.status.conditions, app_status.IMAGE_READY)
        new = find_condition(instance.status.conditions, app_status.IMAGE_READY)
        failed = new is not None and new.reason == "Failed"
        if new is not None and failed and (old is None or old.message != new.message):
            await self._events.tell(
                "AppInstance", instance, "ImageFailed", new.message, warning=True
            )

    async def _amend_app(
        self, key: str, edit: Callable[[AppInstanceStatus], AppInstanceStatus]
    ) -> Resource[AppInstance] | None:
        return await amend(
            self._store,
            kinds.APP_INSTANCE,
            key,
            lambda i: msgspec.structs.replace(i, status=edit(i.status)) if i else None,
        )

    async def _sum_up(self, edge_node: str) -> None:
        statuses = [place.instance.status for place in await self._places(edge_node)]
        summary = AppSummary(
            total=len(statuses),
            running=sum(status.state == app_status.RUNNING for status in statuses),
            failed=sum(
                status.state == "FAILED" or any(e.severity == "Error" for e in status.errors)
                for status in statuses
            ),
        )
        await self.amend_node(edge_node, lambda s: msgspec.structs.replace(s, apps=summary))

    # -- networks --

    async def _take_network(self, edge_node: str, told: info.ZInfoNetworkInstance) -> None:
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

    # -- configs --

    async def on_rendered(
        self, objects: Objects, rendered: Rendered, version: ConfigVersion
    ) -> None:
        """The node's config became another one: apps learn whether they are in it."""
        now = self._clock.now()
        for instance in objects.instances:
            waiting = rendered.waiting.get(instance.metadata.name, "")
            edit_app = partial(
                app_status.place,
                waiting=waiting,
                generation=instance.metadata.generation,
                app_id=render.app_id(instance),
                now=now,
            )
            await self._amend_app(instance.key, edit_app)
        for volume in volumes.of_node(objects):
            place_volume = partial(
                volume_status.place,
                volume=volume,
                objects=objects,
                waiting=rendered.volumes_waiting.get(volume.metadata.name, ""),
                now=now,
            )
            await self._amend_volume(volume, place_volume)
        applied = Condition(
            type="ConfigApplied",
            status="False",
            reason="Waiting",
            message=f"the node has not taken version {version.number} yet",
        )

        system = _wanted_os_of(objects, rendered)

        def edit(status: EdgeNodeStatus) -> EdgeNodeStatus:
            status = node_status.want_os(status, system, now)
            return msgspec.structs.replace(
                status,
                config_version=str(version.number),
                conditions=set_condition(status.conditions, applied, now),
                apps=msgspec.structs.replace(status.apps, total=len(objects.instances)),
            )

        await self.amend_node(objects.node.key, edit)

    async def follow_taken(self) -> None:
        """Never returns. Notes which nodes have taken their newest config."""
        while True:
            row = await self._taken.get()
            await insist(self._clock, "configs taken", partial(self._note_taken, row))

    async def _note_taken(self, row: int) -> None:
        version = await self._store.get(CONFIG_VERSION, device_key(self._registry.node(row)))
        if version is None or version.value.config_hash != self._registry.config_hash(row):
            return
        now, number = self._clock.now(), str(version.value.number)
        applied = Condition(type="ConfigApplied", status="True", reason="Taken")
        config_hash = version.value.config_hash.decode()

        def edit(status: EdgeNodeStatus) -> EdgeNodeStatus:
            return msgspec.structs.replace(
                status,
                config_version=number,
                config_hash=config_hash,
                conditions=set_condition(status.conditions, applied, now),
            )

        await self.amend_node(self._registry.name(row), edit)

    # -- silence --

    async def node_silent(self, edge_node: str, seen: float) -> None:
        """The node was last heard of at `seen`, too long ago."""
        now = self._clock.now()
        changed = await self.amend_node(edge_node, lambda s: node_status.silent(s, seen, now))
        if changed is None:
            return
        why = _message(changed.value.status.conditions, "Ready")
        await self._events.tell("EdgeNode", changed.value, "Silent", why, warning=True)
        for place in await self._places(edge_node):
            await self._amend_app(place.key, lambda s: app_status.unreachable(s, why, now))
        for volume in await self._volumes(edge_node):
            await self._amend_volume(volume, lambda s: volume_status.unreachable(s, why, now))

    async def node_heard(self, edge_node: str, seen: float) -> None:
        """The node was heard of after a silence."""
        now = self._clock.now()
        changed = await self.amend_node(edge_node, lambda s: node_status.heard(s, seen, now))
        if changed is None:
            return
        await self._events.tell("EdgeNode", changed.value, "Online", "the node is heard of again")
        for place in await self._places(edge_node):
            await self._amend_app(place.key, lambda s: app_status.reachable(s, now))
        for volume in await self._volumes(edge_node):
            await self._amend_volume(volume, lambda s: volume_status.reachable(s, now))

    # -- lookups --

    async def _places(self, edge_node: str) -> list[Place]:
        keys = self._dependencies.instances_of(edge_node)
        found = await asyncio.gather(*(self._store.get(kinds.APP_INSTANCE, key) for key in keys))
        return [Place(resource.key, resource.value) for resource in found if resource is not None]

    async def _volumes(self, edge_node: str) -> list[Volume]:
        keys = self._dependencies.volumes_of(edge_node)
        found = await asyncio.gather(*(self._store.get(kinds.VOLUME, key) for key in keys))
        return [resource.value for resource in found if resource is not None]

    async def _place_of(
        self, edge_node: str, wanted: Callable[[AppInstance], bool]
    ) -> Place | None:
        return next((p for p in await self._places(edge_node) if wanted(p.instance)), None)

    async def _app_of(self, instance: AppInstance) -> App | None:
        key = object_key(instance.metadata.namespace, instance.spec.app)
        found = await self._store.get(kinds.APP, key)
        return found.value if found is not None else None

    async def _seen_at(self, edge_node: str, instance: AppInstance) -> tuple[str, str]:
        """Its URL, and what it runs as."""
        app = await self._app_of(instance)
        node = await self._store.get(kinds.EDGE_NODE, edge_node)
        if app is None or node is None:
            return "", ""
        status = node.value.status
        kind = app_status.runs_as(app, status.virtualization)
        return app_status.url_of(app, status.addresses), kind


def _wanted_os_of(objects: Objects, rendered: Rendered) -> Wanted | None:
    spec = objects.node.spec.os
    if spec is None:
        return None
    image = objects.os_images.get(spec.image)
    return Wanted(image.spec.version if image else spec.image, spec.activate, rendered.os_waiting)


def _why_booted(status: EdgeNodeStatus) -> str:
    if status.reboot_reason and status.boot_reason:
        return f"{status.boot_reason}: {status.reboot_reason}"
    return status.reboot_reason or status.boot_reason or "for a reason that it does not tell"


def _message(conditions: tuple[Condition, ...], type_: str) -> str:
    return next((c.message for c in conditions if c.type == type_), "")


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
