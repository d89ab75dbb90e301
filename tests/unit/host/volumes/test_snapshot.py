"""Snapshots on disk: whole or not at all, and the way back leaves them as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevirt.host import big_files as disk
from edgevirt.host.files import DiskError
from edgevirt.host.hypervisor import UnfitError
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.host.volumes.snapshot import SnapshotFiles, SnapshotRecord
from edgevirt.host.volumes.written import check_unwritten, mark_written
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import DomainVolume

pytestmark = pytest.mark.root

MIB = 1024 * 1024
DATA, ROOT = "b0000000-0000-0000-0000-000000000001#0", "b0000000-0000-0000-0000-000000000002#7"
ID = "d0000000-0000-0000-0000-000000000001"
RAW = VolumeRecord(format=ContentFormat.RAW, size=MIB, name="data", readonly=True)


class Disk:
    def __init__(self, where: Path) -> None:
        self.where = where
        self.volumes = VolumeFiles(where)
        self.snapshots = SnapshotFiles(self.volumes)
        self.begin()

    def begin(self) -> None:
        """As after a crash of the service, or of the machine."""
        self.volumes.begin()
        self.snapshots.begin()

    async def make(self, key: str, text: str) -> None:
        blob = self.where.with_name("blob")
        blob.write_text(text)
        await self.volumes.make_copy(key, RAW, blob)

    def write(self, key: str, text: str) -> None:
        with open(self.volumes.path(key), "r+") as file:
            file.write(text)

    def read(self, key: str) -> str:
        return self.volumes.path(key).read_bytes().rstrip(b"\0").decode()

    async def take(self) -> SnapshotRecord:
        return await self.snapshots.take(ID, "app", 1.0, [DATA], [ROOT])

    async def go_back(self, counter: int) -> None:
        record = self.snapshots.record(ID)
        assert record is not None
        await self.snapshots.prepare(ID, record)
        self.snapshots.restore(ID, record, counter)


@pytest.fixture
async def kept(tmp_path: Path) -> Disk:
    made = Disk(tmp_path / "volumes")
    await made.make(DATA, "data 1")
    await made.make(ROOT, "root 1")
    return made


async def test_what_stays_is_copied_and_what_nobody_needs_moves(kept: Disk) -> None:
    record = await kept.take()
    assert record == SnapshotRecord(
        app="app", begun=1.0, volumes={DATA: RAW, ROOT: RAW}, moves=(ROOT,), finished=True
    )
    assert set(kept.volumes.records()) == {DATA}
    assert kept.snapshots.records() == {ID: record}
    assert 0 < kept.snapshots.taken(ID) < MIB, "what is a hole stays one"
    kept.begin()
    assert kept.snapshots.records() == {ID: record}


async def test_going_back_twice_finds_the_same(kept: Disk) -> None:
    await kept.take()
    for counter in (1, 2):
        kept.write(DATA, "later")
        await kept.go_back(counter)
        assert (kept.read(DATA), kept.read(ROOT)) == ("data 1", "root 1")
        kept.write(ROOT, "later")
        assert kept.volumes.records() == {DATA: RAW, ROOT: RAW}
    record = kept.snapshots.record(ID)
    assert record is not None
    assert record.restored == 2


async def test_a_volume_brought_back_is_not_moved_once_more(kept: Disk) -> None:
    record = await kept.take()
    await kept.go_back(1)
    kept.snapshots.finish(ID, record)
    assert set(kept.volumes.records()) == {DATA, ROOT}


async def test_a_snapshot_that_fails_leaves_every_volume_where_it_was(kept: Disk) -> None:
    kept.volumes.remove(DATA)
    with pytest.raises(DiskError, match=f"volume {DATA} is not there"):
        await kept.take()
    assert set(kept.volumes.records()) == {ROOT}
    assert [path.name for path in kept.where.iterdir() if "@" in path.name] == []


async def test_a_copy_cut_off_leaves_nothing(kept: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "_copy_some", full)
    monkeypatch.setattr(disk, "_clone", lambda *_: False)
    with pytest.raises(DiskError, match=r"cannot take snapshot .* the disk is full"):
        await kept.take()
    assert set(kept.volumes.records()) == {DATA, ROOT}
    assert [path.name for path in kept.where.iterdir() if "@" in path.name] == []


async def test_a_power_cut_before_its_record_leaves_no_snapshot(kept: Disk) -> None:
    await kept.take()
    os.rename(kept.where / f"{ID}@{ROOT}", kept.where / ROOT)  # nothing moves before the record
    (kept.where / f"{ID}@.json").unlink()
    kept.begin()
    assert kept.snapshots.records() == {}
    assert kept.read(DATA) == "data 1"
    assert [path.name for path in kept.where.iterdir() if "@" in path.name] == []


async def test_a_power_cut_after_its_record_loses_nothing(
    kept: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise OSError(5, "cut")

    with monkeypatch.context() as patch:
        patch.setattr(kept.volumes, "give_away", cut)
        with pytest.raises(DiskError):
            await kept.take()
    kept.begin()
    record = kept.snapshots.record(ID)
    assert record is not None
    assert not record.finished
    assert kept.snapshots.finish(ID, record).finished
    await kept.go_back(1)
    assert (kept.read(DATA), kept.read(ROOT)) == ("data 1", "root 1")


async def test_a_rollback_cut_off_is_prepared_anew(kept: Disk) -> None:
    record = await kept.take()
    kept.write(DATA, "later")
    await kept.snapshots.prepare(ID, record)
    assert kept.snapshots.is_prepared(record)
    kept.begin()
    assert not kept.snapshots.is_prepared(record)
    assert kept.read(DATA).startswith("later")


async def test_a_removed_snapshot_takes_no_room(kept: Disk) -> None:
    await kept.take()
    kept.snapshots.remove(ID)
    assert kept.snapshots.records() == {}
    assert kept.snapshots.taken(ID) == 0
    assert set(kept.volumes.records()) == {DATA}


async def test_a_directory_of_an_earlier_version_is_refused_in_words(kept: Disk) -> None:
    kept.volumes.path(DATA).unlink()
    kept.volumes.path(DATA).mkdir()
    with pytest.raises(DiskError, match="is a directory"):
        await kept.take()
    assert set(kept.volumes.records()) == {DATA, ROOT}


async def test_a_copy_of_what_a_machine_wrote_is_not_mounted_by_the_node_either(kept: Disk) -> None:
    volume = DomainVolume(path=str(kept.volumes.path(DATA)), format=ContentFormat.RAW)
    mark_written([volume])
    await kept.take()
    os.removexattr(volume.path, "user.edgevirt.written")
    await kept.go_back(1)
    with pytest.raises(UnfitError, match="a virtual machine wrote"):
        check_unwritten(volume.path)


async def test_nor_is_a_disk_as_it_came_from_an_image(kept: Disk) -> None:
    await kept.make(DATA, "a superblock of somebody's")
    with pytest.raises(UnfitError, match="a disk from an image"):
        check_unwritten(str(kept.volumes.path(DATA)))
