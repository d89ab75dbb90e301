"""The volumes service: its kinds, and what runs in its process."""

from __future__ import annotations

import asyncio

from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.volumes.files import VolumeFiles
from edgevirt.host.volumes.snapshot import SnapshotFiles
from edgevirt.model.kinds import STORAGE_USE
from edgevirt.node.service import Context, Service
from edgevirt.node.volumes.content_plan import ContentPlanner
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.snapshot_status import SnapshotReconciler
from edgevirt.node.volumes.storage_report import report_storage
from edgevirt.node.volumes.volume_status import VolumeReconciler
from edgevirt.runtime import engine
from edgevirt.runtime.engine import Controller


async def run(context: Context) -> None:
    paths = context.paths
    if not paths.volumes.is_dir():  # the vault is closed; its opening starts this service anew
        planner = ContentPlanner(vault_open=False)
        await engine.run(context.store, context.clock, [planner])
    files = VolumeFiles(paths.volumes)
    kept = SnapshotFiles(files)
    await asyncio.to_thread(files.begin)
    await asyncio.to_thread(kept.begin)
    ledger = Ledger(paths.persist)
    packed = PackedLayers(paths.packed)
    await asyncio.to_thread(packed.begin)
    volumes = VolumeReconciler(files, packed, ledger, paths.blobs, paths.layers)
    snapshots = SnapshotReconciler(kept, files, ledger)
    controllers: list[Controller] = [ContentPlanner(), volumes, snapshots]
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.run(context.store, context.clock, controllers))
        group.create_task(report_storage(ledger, context.store, context.clock))


_OWNED = (*ContentPlanner.owns, VolumeReconciler.status, SnapshotReconciler.status, STORAGE_USE)
_READ = (
    *(*ContentPlanner.reads, VolumeReconciler.spec, *VolumeReconciler.reads),
    *(SnapshotReconciler.spec, *SnapshotReconciler.reads),
)

SERVICE = Service(
    name="volumes",
    reads=tuple({kind.name: kind for kind in _READ if kind not in _OWNED}.values()),
    owns=_OWNED,
    run=run,
)
