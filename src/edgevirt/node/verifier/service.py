"""The verifier service: its kinds, and what runs in its process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edgevirt.host.content.store import ContentStore
from edgevirt.model.kinds import BLOB_CLAIM, BLOB_STATUS
from edgevirt.node.service import Context, Service
from edgevirt.node.verifier.claims import ClaimReconciler
from edgevirt.runtime import engine
from edgevirt.wire import oci

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


async def run(context: Context) -> None:
    paths = context.paths
    boot_id = (await asyncio.to_thread(_BOOT_ID.read_text)).strip()
    system = ContentStore(paths.system_blobs, paths.system_layers, paths.system_downloads, boot_id)
    content = None
    if paths.blobs.is_dir():  # the vault is open
        content = ContentStore(paths.blobs, paths.layers, paths.downloads, boot_id)
    stores = [store for store in (system, content) if store is not None]
    for store in stores:
        await asyncio.to_thread(store.begin)
    claims = ClaimReconciler(content, oci.machine(), system)
    try:
        await engine.run(context.store, context.clock, [claims])
    finally:
        claims.stop()
        for store in stores:
            store.end()


SERVICE = Service(name="verifier", reads=(BLOB_CLAIM,), owns=(BLOB_STATUS,), run=run)
