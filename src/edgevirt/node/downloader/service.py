"""The downloader service: its kinds, and what runs in its process."""

from __future__ import annotations

from edgevirt.model.kinds import (
    BLOB_DOWNLOAD,
    BLOB_REQUEST,
    PROPERTY,
    TAG_ANSWER,
    TAG_REQUEST,
)
from edgevirt.node.downloader import sources
from edgevirt.node.downloader.blobs import BlobReconciler, Directories
from edgevirt.node.downloader.tags import TagReconciler
from edgevirt.node.service import Context, Service
from edgevirt.runtime import engine


async def run(context: Context) -> None:
    directories = Directories(context.paths.downloads, context.paths.system_downloads)
    datastores = sources.Sources()
    try:
        await engine.run(
            context.store,
            context.clock,
            [
                BlobReconciler(directories, datastores, context.clock),
                TagReconciler(datastores),
            ],
        )
    finally:
        await datastores.close()


SERVICE = Service(
    name="downloader",
    reads=(BLOB_REQUEST, TAG_REQUEST, *sources.READS, PROPERTY),
    owns=(BLOB_DOWNLOAD, TAG_ANSWER),
    run=run,
)
