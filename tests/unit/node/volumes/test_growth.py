"""A volume grows when its config says so, and nothing that is in it is lost, whoever dies when."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgevirt.host.files import room
from edgevirt.host.volumes.files import VolumeFiles
from edgevirt.model.app import VolumeUse
from edgevirt.model.base import Severity, SwState
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import DiskStatus, DomainStatus
from edgevirt.model.ids import AppId, SnapshotId, VolumeId
from edgevirt.model.kinds import (
    CONTENT_TREE_STATUS,
    DOMAIN_STATUS,
    PROPERTY,
    SNAPSHOT,
    SNAPSHOT_STATUS,
    VOLUME,
    VOLUME_USE,
)
from edgevirt.model.node import Property
from edgevirt.model.snapshot import Snapshot
from edgevirt.model.volume import Growth, Volume, VolumeOrigin, VolumeStatus
from edgevirt.node.volumes.telling import RETRY
from tests.worlds.volumes import KEY, MIB, TREE, World

pytestmark = pytest.mark.root

APP = AppId("a0000000-0000-0000-0000-000000000001")
FIRST, SECOND = 64 * MIB, 128 * MIB


class Growing(World):
    async def blank(self, size: int) -> None:
        await self.want(origin=VolumeOrigin.BLANK, content_tree=None, max_size=size)

    async def told(self) -> Growth:
        """The growth that is offered."""
        found = await self.until(lambda v: v is not None and v.growing is not None)
        assert found is not None
        assert found.growing is not None
        return found.growing

    async def has(self, size: int) -> VolumeStatus:
        found = await self.until(lambda v: v is not None and v.max_size == size)
        assert found is not None
        return found

    async def yields(self, growth: Growth | None, *apps: AppId) -> None:
        await self.store.put(VOLUME_USE, KEY, VolumeUse(apps=apps, yields=growth))

    async def says(self, start: str) -> VolumeStatus:
        found = await self.until(
            lambda v: v is not None and v.trouble is not None and v.trouble.why.startswith(start)
        )
        assert found is not None
        return found

    async def kept(self, id: SnapshotId) -> None:
        for _ in range(10_000):
            await self.clock.settle()
            status = await self.store.get(SNAPSHOT_STATUS, id)
            if status is not None and status.value.state == SwState.CREATED_VOLUME:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("no snapshot was taken")

    @property
    def disk(self) -> Path:
        return self.directory / KEY

    def write(self, text: bytes) -> None:
        with open(self.disk, "r+b") as file:
            file.seek(32 * MIB)
            file.write(text)

    def read(self) -> bytes:
        with open(self.disk, "rb") as file:
            file.seek(32 * MIB)
            return file.read(4)

    def recorded(self) -> int:
        record = VolumeFiles(self.directory).record(KEY)
        assert record is not None
        return record.size


@pytest.fixture
async def world(tmp_path: Path) -> Growing:
    """A blank volume with something in it."""
    made = Growing(tmp_path)
    async with made.running():
        await made.blank(FIRST)
        await made.made()
    made.write(b"kept")
    return made


async def test_one_that_no_domain_has_grows_when_apps_yields_it_and_keeps_its_data(
    world: Growing,
) -> None:
    async with world.running():
        await world.blank(SECOND)
        growth = await world.told()
        offered = await world.says("growing from 64 MiB to 128 MiB")
        assert (offered.state, offered.max_size) == (SwState.CREATED_VOLUME, FIRST)
        assert offered.trouble is not None
        assert offered.trouble.severity is Severity.NOTICE
        assert world.disk.stat().st_size == FIRST, "a domain may be started with it at any moment"
        await world.yields(growth)
        grown = await world.has(SECOND)
        assert (grown.growing, grown.trouble) == (None, None)
    assert world.disk.stat().st_size == world.recorded() == SECOND
    assert world.read() == b"kept"
    subprocess.run(["e2fsck", "-fn", world.disk], check=True, capture_output=True)


async def test_a_yield_of_an_earlier_growth_is_none(world: Growing) -> None:
    async with world.running():
        await world.yields(Growth(size=SECOND, begun=-1.0))
        await world.blank(SECOND)
        await world.told()
        await world.clock.advance(100)
        assert world.disk.stat().st_size == FIRST


async def test_one_that_a_domain_has_is_the_domain_s_to_grow(world: Growing) -> None:
    async with world.running():
        await world.yields(None, APP)
        await world.blank(SECOND)
        await world.told()
        await world.clock.advance(1000)
        assert world.disk.stat().st_size == FIRST
        os.truncate(world.disk, SECOND)
        done = DomainStatus(app=APP, name="a", state=SwState.RUNNING, since=0.0)
        await world.store.put(DOMAIN_STATUS, APP, done)
        await world.has(SECOND)
    assert world.recorded() == SECOND


async def test_why_a_domain_cannot_is_told_with_what_helps(world: Growing) -> None:
    async with world.running():
        path = (await world.made()).path
        await world.yields(None, APP)
        disk = DiskStatus(path=path, why="cannot grow a disk of a domain that runs")
        status = DomainStatus(app=APP, name="a", state=SwState.RUNNING, since=0.0, disks=(disk,))
        await world.store.put(DOMAIN_STATUS, APP, status)
        await world.blank(SECOND)
        told = await world.says("growing from 64 MiB to 128 MiB: cannot grow a disk of a domain")
        assert told.trouble is not None
        assert told.trouble.severity is Severity.WARNING
        assert told.trouble.hint == "it grows when its app is stopped"
        os.truncate(world.disk, SECOND)
        await world.store.put(DOMAIN_STATUS, APP, structs.replace(status, pid=7))
        await world.has(SECOND)
        lagging = await world.says("cannot use all 128 MiB of volume disk: cannot grow")
        assert lagging.state == SwState.CREATED_VOLUME


# -- whoever dies when ------------------------------------------------------------------------


async def test_what_was_grown_but_not_recorded_is_found_after_a_power_cut(world: Growing) -> None:
    os.truncate(world.disk, SECOND)
    await world.blank(SECOND)
    async with world.running():
        await world.has(SECOND)
    assert world.recorded() == SECOND


async def test_a_service_that_starts_again_goes_on_with_what_it_said(world: Growing) -> None:
    async with world.running():
        await world.blank(SECOND)
        growth = await world.told()
    await world.clock.advance(5)
    async with world.running(forgetting=False):
        await world.yields(growth)
        await world.has(SECOND)


async def test_what_was_begun_is_ended_though_the_config_goes_back(world: Growing) -> None:
    """Its domain may have done it already."""
    async with world.running():
        await world.yields(None, APP)
        await world.blank(SECOND)
        await world.told()
        await world.blank(FIRST)
        await world.clock.advance(10)
        assert (await world.told()).size == SECOND
        os.truncate(world.disk, SECOND)
        await world.yields(None, APP, AppId("b"))
        await world.has(SECOND)
        await world.says("cannot make volume disk smaller: it has 128 MiB, the config says 64 MiB")


# -- what cannot be -----------------------------------------------------------------------------


async def test_it_cannot_become_smaller_and_goes_on_as_it_is(world: Growing) -> None:
    async with world.running():
        await world.blank(FIRST // 2)
        told = await world.says(
            "cannot make volume disk smaller: it has 64 MiB, the config says 32 MiB"
        )
        assert (told.state, told.max_size) == (SwState.CREATED_VOLUME, FIRST)
        assert told.trouble is not None
        assert told.trouble.severity is Severity.WARNING
        await world.blank(FIRST)
        await world.until(lambda v: v is not None and v.trouble is None)
    assert world.disk.stat().st_size == FIRST


async def test_without_room_it_is_told_what_is_missing_and_nothing_is_touched(
    world: Growing,
) -> None:
    wanted = room(world.persist).free + (1 << 30)
    async with world.running():
        await world.blank(wanted)
        told = await world.says("cannot grow volume disk from 64 MiB to ")
        assert told.trouble is not None
        assert "Remaining disk space " in told.trouble.why
        assert (told.state, told.growing) == (SwState.CREATED_VOLUME, None)
        await world.clock.advance(100)
        assert world.disk.stat().st_size == FIRST
        check = "storage.apps.ignore.disk.check"
        await world.store.put(PROPERTY, check, Property(value="true"))
        await world.yields(await world.told())
        await world.until(lambda v: v is not None and v.growing is None and v.max_size >= wanted)


async def test_room_for_it_is_promised_to_nobody_else(world: Growing) -> None:
    most = room(world.persist).free * 2 // 3 // MIB * MIB
    async with world.running():
        await world.blank(most)
        await world.told()
        other = VolumeId("b0000000-0000-0000-0000-000000000002")
        second = Volume(id=other, origin=VolumeOrigin.BLANK, max_size=most)
        await world.store.put(VOLUME, second.key, second)
        assert "Remaining disk space " in (await world.troubled(second.key)).why


# -- volumes with content -----------------------------------------------------------------------


async def disk(tmp_path: Path, format: str) -> tuple[Growing, Path]:
    world, blob = Growing(tmp_path), tmp_path / "blob"
    raw = tmp_path / "raw"
    raw.write_bytes(b"content" * 100_000)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format, raw, blob], check=True)
    return world, blob


async def load(world: Growing, blob: Path, format: ContentFormat) -> None:
    await world.load(path=str(blob), size=blob.stat().st_size)
    status = await world.store.get(CONTENT_TREE_STATUS, TREE)
    assert status is not None
    there = structs.replace(status.value, format=format)
    await world.store.put(CONTENT_TREE_STATUS, TREE, there)


@pytest.mark.parametrize(
    ("format", "kind"), [("qcow2", ContentFormat.QCOW2), ("raw", ContentFormat.RAW)]
)
async def test_a_disk_that_was_downloaded_grows_too(
    tmp_path: Path, format: str, kind: ContentFormat
) -> None:
    world, blob = await disk(tmp_path, format)
    async with world.running():
        await load(world, blob, kind)
        await world.want(max_size=MIB)
        await world.made()
        await world.want(max_size=40 * MIB + 1)
        await world.yields(await world.told())
        grown = await world.has(40 * MIB + 512)
        assert grown.trouble is None
    compare = ["qemu-img", "compare", "-f", format, "-F", format, grown.path, str(blob)]
    assert (
        "Images are identical"
        in subprocess.run(compare, check=True, capture_output=True, text=True).stdout
    )


async def test_an_image_that_is_bigger_than_was_asked_for_is_no_lowered_size(
    tmp_path: Path,
) -> None:
    world, blob = await disk(tmp_path, "raw")
    async with world.running():
        await load(world, blob, ContentFormat.RAW)
        await world.want(max_size=500_000)
        await world.has(700_416)
        await world.want(max_size=600_000)
        await world.clock.advance(10)
        assert (await world.made()).trouble is None
        await world.want(max_size=0)
        await world.clock.advance(10)
        assert (await world.made()).trouble is None


async def test_a_disk_that_cannot_be_grown_is_told_and_tried_again(tmp_path: Path) -> None:
    world, blob = await disk(tmp_path, "qcow2")
    async with world.running():
        await load(world, blob, ContentFormat.QCOW2)
        await world.want(max_size=MIB)
        await world.made()
        whole = world.disk.read_bytes()
        world.disk.write_bytes(whole[:40] + b"\xff" * 8 + whole[48:])  # where its tables are
        await world.want(max_size=2 * MIB)
        await world.yields(await world.told())
        told = await world.says("cannot grow volume disk from 1 MiB to 2 MiB: qemu-img cannot")
        assert told.growing is None, "an app may be started with it meanwhile"
        world.disk.write_bytes(whole)
        await world.clock.advance(RETRY + 1)
        await world.yields(await world.told())
        await world.has(2 * MIB)


async def test_after_a_rollback_to_a_smaller_one_it_grows_again(world: Growing) -> None:
    id = SnapshotId("d0000000-0000-0000-0000-000000000001")

    async def wants(**fields: Any) -> None:
        snapshot = Snapshot(id=id, app=APP, begun=1.0, copies=(KEY,), **fields)
        await world.store.put(SNAPSHOT, id, snapshot)

    async with world.running():
        await wants(take=True)
        await world.kept(id)
        await world.blank(SECOND)
        await world.yields(await world.told())
        await world.has(SECOND)
        world.write(b"lost")
        await world.clock.advance(1)
        await wants(taken=True, restore=1, commit=True)
        again = await world.told()
        assert (await world.made()).max_size == FIRST
        assert (world.disk.stat().st_size, world.read()) == (FIRST, b"kept")
        await world.yields(again)
        await world.has(SECOND)
    assert world.read() == b"kept"
