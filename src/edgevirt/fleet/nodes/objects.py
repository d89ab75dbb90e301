"""The objects of one node, found and amended: its EdgeNode, what runs on it, what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from edgevirt.fleet.nodes.dependencies import Dependencies
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceStatus
from edgevirt.fleet.objects.base.object import object_key
from edgevirt.fleet.objects.content.volume import Volume, VolumeStatus
from edgevirt.fleet.objects.node.edgenode import EdgeNode, EdgeNodeStatus
from edgevirt.runtime import Resource, Store
from edgevirt.runtime.amend import amend


class Place(NamedTuple):
    """An AppInstance with its key in the store."""

    key: str
    instance: AppInstance


class NodeObjects:
    """Nodes go by their EdgeNodes' keys in the store."""

    def __init__(self, store: Store, dependencies: Dependencies) -> None:
        self._store = store
        self._dependencies = dependencies

    async def places(self, edge_node: str) -> list[Place]:
        keys = self._dependencies.instances_of(edge_node)
        found = await asyncio.gather(*(self._store.get(kinds.APP_INSTANCE, key) for key in keys))
        return [Place(resource.key, resource.value) for resource in found if resource is not None]

    async def volumes(self, edge_node: str) -> list[Volume]:
        keys = self._dependencies.volumes_of(edge_node)
        found = await asyncio.gather(*(self._store.get(kinds.VOLUME, key) for key in keys))
        return [resource.value for resource in found if resource is not None]

    async def place_of(self, edge_node: str, wanted: Callable[[AppInstance], bool]) -> Place | None:
        return next((p for p in await self.places(edge_node) if wanted(p.instance)), None)

    async def app_of(self, instance: AppInstance) -> App | None:
        key = object_key(instance.metadata.namespace, instance.spec.app)
        found = await self._store.get(kinds.APP, key)
        return found.value if found is not None else None

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

    async def amend_app(
        self, key: str, edit: Callable[[AppInstanceStatus], AppInstanceStatus]
    ) -> Resource[AppInstance] | None:
        return await amend(
            self._store,
            kinds.APP_INSTANCE,
            key,
            lambda i: msgspec.structs.replace(i, status=edit(i.status)) if i else None,
        )

    async def amend_volume(
        self, volume: Volume, edit: Callable[[VolumeStatus], VolumeStatus]
    ) -> None:
        """It may have become another one of the same name meanwhile."""

        def change(present: Volume | None) -> Volume | None:
            if present is None or present.metadata.uid != volume.metadata.uid:
                return None
            return msgspec.structs.replace(present, status=edit(present.status))

        await amend(self._store, kinds.VOLUME, volume.key, change)
