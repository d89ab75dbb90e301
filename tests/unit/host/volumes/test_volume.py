"""Volumes on disk exist as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from edgevirt.host.files import DiskError
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.host.volumes.image import BadDiskImage
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.ids import Digest

pytestmark = pytest.mark.root

KEY = "b0000000-0000-0000-0000-000000000001#0"
RAW = VolumeRecord(format=ContentFormat.RAW, size=1024 * 1024)
IMAGE = VolumeRecord(
    format=ContentFormat.CONTAINER,
    size=16 * 1024 * 1024,
    layers=(Digest("sha256:" + "a" * 64),),
    image=ImageConfig(cmd=("/run",)),
)


@pytest.fixture
def files(tmp_path: Path) -> VolumeFiles:
    files = VolumeFiles(tmp_path / "volumes")
    files.begin()
    return files


async def test_a_record_is_read_back_as_it_was_written(files: VolumeFiles) -> None:
    await files.make_blank(KEY, RAW)
    await files.make_blank("other#1", IMAGE)
    assert files.records() == {KEY: RAW, "other#1": IMAGE}
    assert files.taken(KEY) > 0
    files.begin()
    assert files.records() == {KEY: RAW, "other#1": IMAGE}


async def test_a_copy_that_fails_leaves_no_volume(files: VolumeFiles, tmp_path: Path) -> None:
    with pytest.raises(DiskError):
        await files.make_copy(KEY, RAW, tmp_path / "missing")
    assert files.records() == {}
    files.begin()
    assert list((tmp_path / "volumes").iterdir()) == []


async def test_a_disk_that_cannot_be_converted_leaves_no_volume(
    files: VolumeFiles, tmp_path: Path
) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"no qcow2")
    disk = structs.replace(RAW, format=ContentFormat.QCOW2)
    with pytest.raises(BadDiskImage, match="qemu-img cannot convert it"):
        await files.make_converted(KEY, disk, blob, ContentFormat.QCOW2)
    assert files.records() == {}
    files.begin()
    assert list((tmp_path / "volumes").iterdir()) == []


async def test_a_damaged_record_makes_no_volume(files: VolumeFiles, tmp_path: Path) -> None:
    await files.make_blank(KEY, RAW)
    (tmp_path / f"volumes/{KEY}.json").write_bytes(b"\x00" * 50)
    assert files.record(KEY) is None
    files.begin()
    assert list((tmp_path / "volumes").iterdir()) == []


async def test_removal_ends_also_after_a_crash_in_its_midst(
    files: VolumeFiles, tmp_path: Path
) -> None:
    await files.make_blank(KEY, RAW)
    (tmp_path / f"volumes/{KEY}.json").unlink()
    (tmp_path / f"volumes/.{KEY}.gone").mkdir()
    files.remove(KEY)
    files.remove(KEY)
    assert list((tmp_path / "volumes").iterdir()) == []


def test_others_cannot_enter_the_volumes(files: VolumeFiles, tmp_path: Path) -> None:
    assert (tmp_path / "volumes").stat().st_mode & 0o077 == 0
