"""Runs the downloader with one request until it is killed: `run_download.py URL DIGEST PERSIST`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from edgevirt.model.content import BlobRequest, Datastore, DatastoreType
from edgevirt.model.ids import DatastoreId, Digest
from edgevirt.model.kinds import BLOB_REQUEST, DATASTORE
from edgevirt.node.downloader import SERVICE
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Settings
from edgevirt.runtime import RealClock
from edgevirt.runtime.memory import MemoryStore


async def main(url: str, digest: str, persist: str) -> None:
    store = MemoryStore()
    key = DatastoreId("d")
    await store.put(DATASTORE, key, Datastore(id=key, type=DatastoreType.HTTP, fqdn=url))
    request = BlobRequest(digest=Digest(digest), datastores=(key,), url="blob")
    await store.put(BLOB_REQUEST, digest, request)
    where = Path(persist)
    paths = Paths(where / "config", where, where / "run")
    await SERVICE.run(Context(SERVICE.name, store, RealClock(), paths, Settings()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
