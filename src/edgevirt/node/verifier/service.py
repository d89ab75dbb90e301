"""The verifier service: its kinds, and what runs in its process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edgevirt.host.content import ContentStore
from edgevirt.model.kinds import BLOB_CLAIM, BLOB_STATUS
from edgevirt.node.service import Context, Service
from edgevirt.node.verifier.claims import ClaimReconciler
from edgevirt.runtime import engine
from edgevirt.wire import oci

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


async def run(context: Context) -> None:
    paths = context.paths
    boot_id = (await asyncio.to_thread(_BOOT_ID.read_text)).strip()
    content = ContentStore(paths.blobs, paths.layers, paths.downloads, boot_id)
    await asyncio.to_thread(content.begin)
    claims = ClaimReconciler(content, oci.machine())
    try:
        await engine.run(context.store, context.clock, [claims])
    finally:
        claims.stop()
        content.end()


SERVICE = Service(name="verifier", reads=(BLOB_CLAIM,), owns=(BLOB_STATUS,), run=run)
