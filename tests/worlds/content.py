"""The three services of content on one store, in one process, over real disks and registries."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgevirt.image.eci.oci import Image, make_image, pack_layer
from edgevirt.model.base import SwState
from edgevirt.model.content import (
    ContentFormat,
    ContentTree,
    ContentTreeStatus,
    Datastore,
    DatastoreType,
    ImageConfig,
)
from edgevirt.model.ids import ContentTreeId, DatastoreId, VolumeId
from edgevirt.model.kinds import (
    AGENT_STATUS,
    BLOB_CLAIM,
    CONTENT_TREE,
    CONTENT_TREE_STATUS,
    DATASTORE,
    VOLUME,
    VOLUME_STATUS,
)
from edgevirt.model.node import AgentState, AgentStatus
from edgevirt.model.volume import Volume, VolumeOrigin, VolumeStatus
from edgevirt.node.downloader import SERVICE as DOWNLOADER
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Service, Settings
from edgevirt.node.verifier import SERVICE as VERIFIER
from edgevirt.node.volumes import SERVICE as VOLUMES
from edgevirt.runtime import Kind, RealClock
from edgevirt.runtime.engine import guard
from edgevirt.runtime.memory import MemoryStore

T = TypeVar("T")

BUSYBOX = Path("/bin/busybox")
STORE = DatastoreId("d0000000-0000-0000-0000-000000000000")
PATIENCE = 90.0
"""Seconds of this machine until a test gives up waiting for what must come."""
SERVICES = (DOWNLOADER, VERIFIER, VOLUMES)


class JumpingClock(RealClock):
    """The machine's own time, which a test can move on."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def jump(self, seconds: float) -> None:
        self._ahead += seconds

    def now(self) -> float:
        return super().now() + self._ahead

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.02))


def make_root(where: Path, *, text: str = "hello") -> Path:
    """A tiny root file system: busybox and a file that tells it from others."""
    (where / "bin").mkdir(parents=True)
    (where / "etc").mkdir()
    shutil.copy(BUSYBOX, where / "bin/busybox")
    (where / "bin/sh").symlink_to("busybox")
    (where / "etc/motd").write_text(text)
    return where


def make_busybox_image(where: Path, *, text: str = "hello") -> Image:
    """Two layers: a base, and one that changes it."""
    base = pack_layer(make_root(where / "base", text=text), where / "base.tgz")
    (where / "top/etc").mkdir(parents=True)
    (where / "top/etc/issue").write_text("edge")
    (where / "top/etc/.wh.motd").touch()
    top = pack_layer(where / "top", where / "top.tgz")
    image = ImageConfig(entrypoint=("/bin/sh", "-c"), cmd=("cat /etc/issue",), env=("A=1",))
    return make_image([base, top], image)


@dataclass
class ContentWorld:
    """`store` outlives `serving()`, as the agent's kinds do; the persistent kinds are on it."""

    paths: Paths
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: JumpingClock = field(default_factory=JumpingClock)

    def __post_init__(self) -> None:
        """As the supervisor makes them once the vault is open; services wait for them."""
        paths = self.paths
        vault = (paths.downloads, paths.blobs, paths.layers, paths.volumes)
        for directory in (*vault, paths.system_downloads, paths.system_blobs, paths.system_layers):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """All three services run meanwhile."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._serve(service)) for service in SERVICES]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _serve(self, service: Service) -> None:
        store = guard(self.store, service.reads, service.owns)
        context = Context(service.name, store, self.clock, self.paths, Settings())
        with suppress(asyncio.CancelledError):
            await service.run(context)

    async def restart(self) -> None:
        """What a restart of the node leaves of the statuses: only what is persistent."""
        for service in SERVICES:
            for kind in service.owns:
                for key in await self.store.list(kind):
                    if not kind.persistent:
                        await self.store.delete(kind, key)

    # -- config --

    async def configure(self, host: str, user: str = "", password: str = "") -> None:
        store = Datastore(
            id=STORE,
            type=DatastoreType.CONTAINER_REGISTRY,
            fqdn=f"docker://{host}",
            api_key=user,
            password=password,
        )
        await self.store.put(DATASTORE, STORE, store)
        online = AgentStatus(state=AgentState.ONLINE, since=0.0, config_from="controller")
        await self.store.put(AGENT_STATUS, "node", online)

    async def want_image(self, number: int, url: str, **fields: Any) -> ContentTreeId:
        given = {"format": ContentFormat.CONTAINER, "datastores": (STORE,), **fields}
        tree = ContentTree(id=content_tree_id(number), url=url, name=f"tree-{number}", **given)
        await self.store.put(CONTENT_TREE, tree.id, tree)
        return tree.id

    async def want_volume(
        self, number: int, tree: ContentTreeId | None, *, size: int = 0, generation: int = 0
    ) -> str:
        volume = Volume(
            id=VolumeId(f"b0000000-0000-0000-0000-{number:012}"),
            origin=VolumeOrigin.BLANK if tree is None else VolumeOrigin.DOWNLOAD,
            generation=generation,
            content_tree=tree,
            max_size=size,
            name=f"volume-{number}",
        )
        await self.store.put(VOLUME, volume.key, volume)
        return volume.key

    # -- what becomes of it --

    async def until(
        self,
        kind: Kind[T],
        key: str,
        good: Callable[[T | None], bool],
        *,
        hurry: float = 0.0,
        within: float = PATIENCE,
    ) -> T | None:
        """Waits for a value (None: it is gone) that is good; fails with the last one seen.
        `hurry`: seconds that the clock jumps at each look.
        """
        last: T | None = None
        try:
            async with asyncio.timeout(within):
                while True:
                    found = await self.store.get(kind, key)
                    last = None if found is None else found.value
                    if good(last):
                        return last
                    self.clock.jump(hurry)
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{kind.name} {key} stayed {last}") from None

    async def until_true(self, good: Callable[[], bool], hurry: float = 0.0) -> None:
        async with asyncio.timeout(PATIENCE):
            while not good():
                self.clock.jump(hurry)
                await asyncio.sleep(0.01)

    async def gone(self, kind: Kind[T], key: str) -> None:
        """Waits as long as any grace of it takes."""
        await self.until(kind, key, lambda value: value is None, hurry=5.0)

    async def tree(self, key: str, state: SwState = SwState.LOADED) -> ContentTreeStatus:
        found = await self.until(
            CONTENT_TREE_STATUS, key, lambda tree: tree is not None and tree.state == state
        )
        assert found is not None
        return found

    async def volume(self, key: str, state: SwState = SwState.CREATED_VOLUME) -> VolumeStatus:
        found = await self.until(
            VOLUME_STATUS, key, lambda volume: volume is not None and volume.state == state
        )
        assert found is not None
        return found

    async def claims(self) -> set[str]:
        return set(await self.store.list(BLOB_CLAIM))


def content_tree_id(number: int) -> ContentTreeId:
    return ContentTreeId(f"c0000000-0000-0000-0000-{number:012}")
