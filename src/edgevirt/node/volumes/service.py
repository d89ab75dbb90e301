"""The volumes service: its kinds, and what runs in its process."""

from __future__ import annotations

import asyncio

from edgevirt.host.packed import PackedLayers
from edgevirt.host.volume import VolumeFiles
from edgevirt.node.service import Context, Service
from edgevirt.node.volumes.content_plan import ContentPlanner
from edgevirt.node.volumes.volume_status import VolumeReconciler
from edgevirt.runtime import engine


async def run(context: Context) -> None:
    paths = context.paths
    if not paths.volumes.is_dir():  # the vault is closed; its opening starts this service anew
        planner = ContentPlanner(vault_open=False)
        await engine.run(context.store, context.clock, [planner])
    files = VolumeFiles(paths.volumes)
    await asyncio.to_thread(files.begin)
    packed = PackedLayers(paths.packed)
    await asyncio.to_thread(packed.begin)
    volumes = VolumeReconciler(files, packed, paths.persist, paths.blobs, paths.layers)
    await engine.run(context.store, context.clock, [ContentPlanner(), volumes])


_OWNED = (*ContentPlanner.owns, VolumeReconciler.status)
_READ = (*ContentPlanner.reads, VolumeReconciler.spec, *VolumeReconciler.reads)

SERVICE = Service(
    name="volumes",
    reads=tuple({kind.name: kind for kind in _READ if kind not in _OWNED}.values()),
    owns=_OWNED,
    run=run,
)
