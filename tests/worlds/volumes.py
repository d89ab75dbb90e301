"""Volumes and snapshots of a node, by the real reconcilers, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.volumes.files import VolumeFiles
from edgevirt.host.volumes.snapshot import SnapshotFiles
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import (
    BlobStatus,
    ContentFormat,
    ContentTree,
    ContentTreeStatus,
    ImageConfig,
)
from edgevirt.model.ids import ContentTreeId, DatastoreId, Digest, VolumeId
from edgevirt.model.kinds import (
    AGENT_STATUS,
    BLOB_STATUS,
    CONTENT_TREE,
    CONTENT_TREE_STATUS,
    SNAPSHOT_STATUS,
    VOLUME,
    VOLUME_STATUS,
)
from edgevirt.model.node import AgentState, AgentStatus
from edgevirt.model.volume import Volume, VolumeOrigin, VolumeStatus
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.snapshot_status import SnapshotReconciler
from edgevirt.node.volumes.volume_status import VolumeReconciler
from edgevirt.runtime import Kind, VirtualClock
from edgevirt.runtime import engine as runtime_engine
from edgevirt.runtime.memory import MemoryStore

ID = VolumeId("b0000000-0000-0000-0000-000000000001")
KEY = f"{ID}#0"
TREE = ContentTreeId("t1")
LAYER = Digest("sha256:" + "a" * 64)
MIB = 1024 * 1024


class World:
    def __init__(self, where: Path) -> None:
        self.persist = where
        self.directory = where / "volumes"
        self.layers = where / "layers"
        self.store = MemoryStore()
        self.clock = VirtualClock()
        (self.layers / ("a" * 64)).mkdir(parents=True)

    @asynccontextmanager
    async def running(self, *, known: bool = True, forgetting: bool = True) -> AsyncIterator[None]:
        """One run of the service, as after a restart of the node: no status is left of the one
        before. Not `forgetting`: of the service alone.
        """
        kinds: tuple[Kind[Any], ...] = (VOLUME_STATUS, SNAPSHOT_STATUS)
        for kind in kinds if forgetting else ():
            for key in await self.store.list(kind):
                await self.store.delete(kind, key)
        await self.config(known)
        files = VolumeFiles(self.directory)
        files.begin()
        kept = SnapshotFiles(files)
        kept.begin()
        ledger = Ledger(self.persist)
        packed = PackedLayers(self.persist / "packed")
        packed.begin()
        blobs = self.persist / "blobs"
        volumes = VolumeReconciler(files, packed, ledger, blobs, self.layers)
        snapshots = SnapshotReconciler(kept, files, ledger)
        serving = asyncio.create_task(
            runtime_engine.run(self.store, self.clock, [volumes, snapshots])
        )
        try:
            yield
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def config(self, known: bool) -> None:
        status = AgentStatus(
            state=AgentState.ONLINE, since=0, config_from="checkpoint" if known else ""
        )
        await self.store.put(AGENT_STATUS, "node", status)

    async def want(self, **fields: Any) -> str:
        given: dict[str, Any] = {"origin": VolumeOrigin.DOWNLOAD, "content_tree": TREE, **fields}
        volume = Volume(id=ID, name="disk", **given)
        await self.store.put(VOLUME, volume.key, volume)
        return volume.key

    async def load(self, **fields: Any) -> None:
        """The content tree is there, by default an image of one layer."""
        tree = {"format": ContentFormat.CONTAINER, "url": "u", "datastores": (DatastoreId("d"),)}
        if "path" in fields:
            tree["format"] = ContentFormat.RAW
        elif fields.get("state", SwState.LOADED) == SwState.LOADED:
            fields.setdefault("layers", (str(self.layers / ("a" * 64)),))
            fields.setdefault("image", ImageConfig(cmd=("/run",)))
        await self.layer()
        wanted = ContentTree(id=TREE, **tree)  # type: ignore[arg-type]
        await self.store.put(CONTENT_TREE, TREE, wanted)
        format = ContentFormat.UNKNOWN if "parts" in fields else tree["format"]
        given = {"state": SwState.LOADED, "since": 0.0, "format": format, **fields}
        given.setdefault("content", wanted.content)
        await self.store.put(CONTENT_TREE_STATUS, TREE, ContentTreeStatus(id=TREE, **given))

    async def layer(self, state: SwState = SwState.LOADED) -> None:
        await self.store.put(BLOB_STATUS, LAYER, BlobStatus(digest=LAYER, state=state, size=10))

    async def until(
        self, good: Callable[[VolumeStatus | None], bool], key: str = KEY, *, tick: float = 0.0
    ) -> VolumeStatus | None:
        found: VolumeStatus | None = None
        for _ in range(10_000):
            await self.clock.advance(tick)
            item = await self.store.get(VOLUME_STATUS, key)
            found = None if item is None else item.value
            if good(found):
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"the volume stayed {found}")

    async def made(self, key: str = KEY) -> VolumeStatus:
        return await self.reached(SwState.CREATED_VOLUME, key)

    async def reached(self, state: SwState, key: str = KEY) -> VolumeStatus:
        found = await self.until(lambda v: v is not None and v.state == state, key)
        assert found is not None
        return found

    async def troubled(self, key: str = KEY) -> Trouble:
        found = await self.until(lambda v: v is not None and v.trouble is not None, key)
        assert found is not None
        assert found.trouble is not None
        return found.trouble

    async def gone(self, key: str = KEY) -> None:
        await self.until(lambda volume: volume is None, key)

    async def gone_in_time(self, key: str = KEY) -> None:
        """Time goes on: it counts from when the service saw the change, and that may have been at
        work in a thread."""
        await self.until(lambda volume: volume is None, key, tick=1.0)
