"""Snapshots are promised their room, taken whole, brought back, and let go of with words."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgevirt.host import big_files as disk
from edgevirt.host.files import room
from edgevirt.host.volumes.files import VolumeFiles
from edgevirt.host.volumes.snapshot import SnapshotFiles
from edgevirt.model.app import VolumeUse
from edgevirt.model.base import SwState
from edgevirt.model.content import BlobStatus
from edgevirt.model.ids import AppId, SnapshotId
from edgevirt.model.kinds import (
    BLOB_STATUS,
    PROPERTY,
    SNAPSHOT,
    SNAPSHOT_STATUS,
    VOLUME,
    VOLUME_USE,
)
from edgevirt.model.node import Property
from edgevirt.model.snapshot import Snapshot, SnapshotStatus
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.snapshot_status import RETRY
from edgevirt.runtime.access import View
from tests.worlds.volumes import KEY, LAYER, MIB, World

pytestmark = pytest.mark.root

ONE = SnapshotId("d0000000-0000-0000-0000-000000000001")
APP = AppId("a0000000-0000-0000-0000-000000000001")


class Kept(World):
    async def wants(self, **fields: Any) -> None:
        fields = {"copies": (KEY,), "begun": 1.0, **fields}
        await self.store.put(SNAPSHOT, ONE, Snapshot(id=ONE, app=APP, **fields))

    async def tells(self, good: Callable[[SnapshotStatus], bool]) -> SnapshotStatus:
        found: SnapshotStatus | None = None
        for _ in range(10_000):
            await self.clock.settle()
            item = await self.store.get(SNAPSHOT_STATUS, ONE)
            found = None if item is None else item.value
            if found is not None and good(found):
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"the snapshot stayed {found}")

    async def vanishes(self) -> None:
        for _ in range(10_000):
            await self.clock.settle()
            if await self.store.get(SNAPSHOT_STATUS, ONE) is None:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the snapshot stayed")

    async def is_now(self, state: SwState) -> SnapshotStatus:
        return await self.tells(lambda told: told.state == state)

    async def troubled(self) -> str:  # type: ignore[override]
        told = await self.tells(lambda told: told.trouble is not None)
        assert told.trouble is not None
        return told.trouble.why

    async def use(self, *apps: AppId) -> None:
        await self.store.put(VOLUME_USE, KEY, VolumeUse(apps=apps))

    def write(self, text: bytes) -> None:
        with open(self.directory / KEY, "r+b") as file:
            file.seek(MIB)
            file.write(text)

    def read(self) -> bytes:
        with open(self.directory / KEY, "rb") as file:
            file.seek(MIB)
            return file.read(5)


@pytest.fixture
async def world(tmp_path: Path) -> Kept:
    """An app's root with something written on it."""
    kept = Kept(tmp_path)
    async with kept.running():
        await kept.load()
        await kept.want(max_size=64 * MIB)
        await kept.made()
    kept.write(b"first")
    return kept


async def test_room_is_promised_before_it_is_taken_and_each_step_is_told(world: Kept) -> None:
    async with world.running():
        await world.wants()
        promised = await world.is_now(SwState.CREATING_VOLUME)
        assert promised.size > 0
        assert list(world.directory.glob("*@*")) == []
        await world.wants(take=True)
        taken = await world.is_now(SwState.CREATED_VOLUME)
        assert (taken.begun, taken.blobs) == (1.0, (LAYER,))
        assert 0 < taken.size < 64 * MIB


async def test_a_snapshot_that_is_lost_is_not_taken_from_an_app_that_runs(world: Kept) -> None:
    async with world.running():
        await world.wants(taken=True)
        assert (await world.is_now(SwState.FAILED)).trouble is not None
        assert "it is lost" in await world.troubled()
        assert list(world.directory.glob("*@*")) == []
        assert world.read() == b"first"


async def test_a_snapshot_that_finds_no_room_says_how_much_and_goes_on_by_itself(
    world: Kept,
) -> None:
    reserve = "storage.dom0.disk.minusage.percent"
    most = "storage.dom0.disk.maxusagebytes"
    await world.store.put(PROPERTY, most, Property(value=str(room(world.persist).total)))
    await world.store.put(PROPERTY, reserve, Property(value="100"))
    async with world.running():
        await world.wants()
        why = await world.troubled()
        assert why.startswith("cannot keep a snapshot: Remaining disk space 0 snapshot needs ")
        assert "promised to volumes" in why
        await world.store.delete(PROPERTY, reserve)
        await world.store.delete(PROPERTY, most)
        await world.clock.advance(RETRY + 1)
        await world.is_now(SwState.CREATING_VOLUME)


async def test_a_snapshot_on_a_disk_that_is_really_full_is_refused_before_it_is_begun(
    tmp_path: Path,
) -> None:
    """A small disk: the data fits once, not twice."""
    disk, mounted = tmp_path / "disk", tmp_path / "mounted"
    with disk.open("wb") as file:
        file.truncate(160 * MIB)
    mounted.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, mounted], check=True)
    try:
        world = Kept(mounted)
        async with world.running():
            await world.load()
            await world.want(max_size=64 * MIB)
            await world.made()
            with open(world.directory / KEY, "r+b") as data:
                data.write(os.urandom(60 * MIB))
            await world.wants()
            why = await world.troubled()
            assert "snapshot needs " in why
            assert f"of {room(mounted).total} bytes {room(mounted).free} are free" in why
            assert list(world.directory.glob("*@*")) == []
            with open(world.directory / KEY, "r+b") as data:
                data.truncate(MIB)
            await world.clock.advance(RETRY + 1)
            await world.is_now(SwState.CREATING_VOLUME)
            await world.wants(take=True)
            await world.is_now(SwState.CREATED_VOLUME)
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


def test_where_the_disk_went_is_told_by_what_took_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.promise(KEY, 7, lambda: 0)
    ledger.promise(ONE, 5, lambda: 5)
    blob = BlobStatus(digest=LAYER, state=SwState.LOADED, size=2, unpacked=1)
    tables: dict[str, dict[str, Any]] = {BLOB_STATUS.name: {LAYER: blob}, PROPERTY.name: {}}
    use = ledger.use(View(tables, now=0.0, monotonic=0.0))
    assert (use.content, use.volumes, use.snapshots) == (3, 7, 5)
    assert 0 < use.reserved < use.total
    assert use.left < use.free


async def test_what_moved_comes_back_as_a_volume_that_no_config_names(world: Kept) -> None:
    async with world.running():
        await world.made()
        await world.use(APP)
        await world.store.delete(VOLUME, KEY)
        await world.wants(copies=(), moves=(KEY,), take=True)
        await world.is_now(SwState.CREATED_VOLUME)
        await world.reached(SwState.INITIAL)
        await world.use()
        await world.store.delete(VOLUME_USE, KEY)
        await world.gone()
        await world.wants(copies=(), moves=(KEY,), taken=True, restore=1)
        await world.tells(lambda told: told.prepared == 1)
        assert not (world.directory / KEY).exists()
        await world.use(APP)
        await world.reached(SwState.INITIAL)
        await world.wants(copies=(), moves=(KEY,), taken=True, restore=1, commit=True)
        await world.tells(lambda told: told.restored == 1)
        back = await world.made()
    assert (world.read(), back.name) == (b"first", "disk")
    assert (world.directory / f"{ONE}@{KEY}").exists()


async def test_a_rollback_replaces_nothing_until_the_app_is_stopped(world: Kept) -> None:
    async with world.running():
        await world.wants(take=True)
        await world.is_now(SwState.CREATED_VOLUME)
        world.write(b"later")
        await world.wants(taken=True, restore=1)
        await world.tells(lambda told: told.prepared == 1)
        assert world.read() == b"later"
        await world.wants(take=True)
        await world.tells(lambda told: told.prepared == 0)
        assert list(world.directory.glob(".*")) == [], "what was given up takes no room"
        await world.wants(taken=True, restore=2, commit=True)
        await world.tells(lambda told: told.restored == 2)
        assert world.read() == b"first"


async def test_a_rollback_that_is_done_is_not_done_again_after_a_restart(world: Kept) -> None:
    async with world.running():
        await world.wants(take=True, restore=1, commit=True)
        await world.tells(lambda told: told.restored == 1)
    world.write(b"later")  # the app runs
    async with world.running():
        await world.tells(lambda told: told.restored == 1)
        await world.made()
    assert world.read() == b"later"


async def test_a_snapshot_that_the_disk_refuses_is_told_and_leaves_the_volume(
    world: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "_clone", lambda *_: False)
    monkeypatch.setattr(disk, "_copy_some", broken)
    async with world.running():
        await world.wants()
        await world.is_now(SwState.CREATING_VOLUME)
        await world.wants(take=True)
        failed = await world.is_now(SwState.FAILED)
        assert failed.trouble is not None
        assert "Input/output error" in failed.trouble.why
        await world.made()
    assert list(world.directory.glob("*@*")) == []


async def test_one_begun_anew_under_its_id_is_another(world: Kept) -> None:
    async with world.running():
        await world.wants(take=True)
        await world.is_now(SwState.CREATED_VOLUME)
        world.write(b"later")
        await world.wants(take=True, begun=2.0)
        await world.tells(lambda told: told.begun == 2.0 and told.state == SwState.CREATED_VOLUME)
        await world.wants(take=True, begun=2.0, restore=1, commit=True)
        await world.tells(lambda told: told.restored == 1)
    assert world.read() == b"later"


async def test_a_deletion_that_fails_is_told_and_tried_again(
    world: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running():
        await world.wants(take=True)
        await world.is_now(SwState.CREATED_VOLUME)
        with monkeypatch.context() as patch:

            def stuck(_self: object, _id: str) -> None:
                raise OSError(5, "Input/output error")

            patch.setattr(SnapshotFiles, "_remove_files", stuck)
            await world.store.delete(SNAPSHOT, ONE)
            assert (await world.troubled()).startswith("cannot delete snapshot")
        await world.clock.advance(RETRY + 1)
        await world.vanishes()
    assert list(world.directory.glob("*@*")) == []


async def test_without_a_config_no_snapshot_goes(world: Kept) -> None:
    async with world.running():
        await world.wants(take=True)
        await world.is_now(SwState.CREATED_VOLUME)
    await world.store.delete(SNAPSHOT, ONE)
    async with world.running(known=False):
        await world.is_now(SwState.CREATED_VOLUME)
    files = SnapshotFiles(VolumeFiles(world.directory))
    assert list(files.records()) == [ONE]
    assert structs.asdict(files.records()[ONE])["app"] == APP
