"""What objects say of their node's config: whether they are in it, and whether the node has it."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec

from edgevirt.fleet import render
from edgevirt.fleet.configs.lineage import CONFIG_VERSION, ConfigVersion
from edgevirt.fleet.nodes.devices import device_key
from edgevirt.fleet.nodes.objects import NodeObjects
from edgevirt.fleet.nodes.registry import Registry
from edgevirt.fleet.objects.base.object import Condition, set_condition
from edgevirt.fleet.objects.node.edgenode import EdgeNodeStatus
from edgevirt.fleet.render import Objects, Rendered, volumes
from edgevirt.fleet.status import of_app, of_node, of_volume
from edgevirt.fleet.status.of_system import Wanted
from edgevirt.runtime import Clock, Store
from edgevirt.runtime.amend import insist


class ConfigStatus:
    """One per process."""

    def __init__(
        self, store: Store, registry: Registry, objects: NodeObjects, clock: Clock
    ) -> None:
        self._store = store
        self._registry = registry
        self._objects = objects
        self._clock = clock
        self._taken: asyncio.Queue[int] = asyncio.Queue()
        registry.on_current = self._taken.put_nowait

    async def on_rendered(
        self, objects: Objects, rendered: Rendered, version: ConfigVersion
    ) -> None:
        """The node's config became another one: apps learn whether they are in it."""
        now = self._clock.now()
        for instance in objects.instances:
            waiting = rendered.waiting.get(instance.metadata.name, "")
            edit_app = partial(
                of_app.place,
                waiting=waiting,
                generation=instance.metadata.generation,
                app_id=render.app_id(instance),
                now=now,
            )
            await self._objects.amend_app(instance.key, edit_app)
        for volume in volumes.of_node(objects):
            place_volume = partial(
                of_volume.place,
                volume=volume,
                objects=objects,
                waiting=rendered.volumes_waiting.get(volume.metadata.name, ""),
                now=now,
            )
            await self._objects.amend_volume(volume, place_volume)
        applied = Condition(
            type="ConfigApplied",
            status="False",
            reason="Waiting",
            message=f"the node has not taken version {version.number} yet",
        )

        system = _wanted_os_of(objects, rendered)

        def edit(status: EdgeNodeStatus) -> EdgeNodeStatus:
            status = of_node.want_os(status, system, now)
            return msgspec.structs.replace(
                status,
                config_version=str(version.number),
                held_config=None,
                conditions=set_condition(status.conditions, applied, now),
                apps=msgspec.structs.replace(status.apps, total=len(objects.instances)),
            )

        await self._objects.amend_node(objects.node.key, edit)

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
                held_config=None,
                config_hash=config_hash,
                conditions=set_condition(status.conditions, applied, now),
            )

        await self._objects.amend_node(self._registry.name(row), edit)


def _wanted_os_of(objects: Objects, rendered: Rendered) -> Wanted | None:
    spec = objects.node.spec.os
    if spec is None:
        return None
    image = objects.os_images.get(spec.image)
    return Wanted(image.spec.version if image else spec.image, spec.activate, rendered.os_waiting)
