"""Missing partitions are made once, on a real disk, and what holds data is never formatted."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgevirt.host import mounts
from edgevirt.host.boot.persist import Holds, PersistError, look, open_persist
from edgevirt.host.disk.partitions import BootDisk
from edgevirt.model.disk import MIB, SECTORS, Label, partition
from edgevirt.model.gpt import Entry, format_table

pytestmark = pytest.mark.root

LABELS = (Label.IMGA, Label.IMGB, Label.P3)


@pytest.fixture(params=SECTORS)
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[BootDisk]:
    """A disk as an installer leaves it, whose image was then put on a larger one."""
    sector: int = request.param
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    mib = MIB // sector
    rows = (entry(Label.IMGA, mib, 32 * mib), entry(Label.CONFIG, 40 * mib, 4 * mib))
    given = (replace(row, sector=sector) for row in rows)
    table = format_table(128 * MIB, str(uuid.uuid4()), given, b"", sector)
    with image.open("r+b") as file:
        for offset, content in (table.backup, table.table, table.protective):
            file.seek(offset)
            file.write(content)
    with image.open("r+b") as file:
        file.truncate(768 * MIB)
        file.seek(100 * MIB)
        file.write(b"remains of what was there before" * 65536)
    attach = ["losetup", "--find", "--show", "--partscan", "--sector-size", str(sector)]
    attached = subprocess.run([*attach, str(image)], check=True, capture_output=True, text=True)
    device = attached.stdout.strip()
    try:
        yield BootDisk(Path(device))
    finally:
        mounts.unmount_below(tmp_path)
        subprocess.run(["losetup", "--detach", device], check=False)


def entry(label: Label, first: int, sectors: int) -> Entry:
    row = partition(label)
    return Entry(row.number, row.type, str(uuid.uuid4()), first, first + sectors - 1, label)


def test_missing_partitions_are_made_once_and_seen_at_once(disk: BootDisk) -> None:
    assert disk.add_missing(LABELS) == (Label.IMGB, Label.P3)
    imgb, data = disk.find(Label.IMGB), disk.find(Label.P3)
    assert imgb is not None
    assert data is not None
    assert imgb.size == 32 * MIB
    assert data.size > 650 * MIB
    assert imgb.device.is_block_device()
    assert data.device.is_block_device()
    assert disk.add_missing(LABELS) == ()
    assert look(data.device) is Holds.NOTHING


def test_what_was_kept_is_there_the_next_time(disk: BootDisk, tmp_path: Path) -> None:
    disk.add_missing(LABELS)
    data = disk.find(Label.P3)
    assert data is not None
    target = tmp_path / "persist"
    target.mkdir()
    assert open_persist(data.device, target) == "made"
    (target / "kept").write_text("this")
    mounts.unmount_below(target)
    assert look(data.device) is Holds.EXT4
    assert open_persist(data.device, target) == ""
    assert (target / "kept").read_text() == "this"


def test_a_damaged_file_system_is_repaired_and_keeps_what_it_can(
    disk: BootDisk, tmp_path: Path
) -> None:
    disk.add_missing(LABELS)
    data = disk.find(Label.P3)
    assert data is not None
    target = tmp_path / "persist"
    target.mkdir()
    open_persist(data.device, target)
    (target / "kept").write_text("this")
    mounts.unmount_below(target)
    subprocess.run(
        ["debugfs", "-w", "-R", "clri /lost+found", str(data.device)],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["debugfs", "-w", "-R", "set_super_value state 2", str(data.device)],
        check=True,
        capture_output=True,
    )
    assert "repaired" in open_persist(data.device, target)
    assert (target / "kept").read_text() == "this"


def test_a_partition_that_holds_something_else_is_left_as_it_is(
    disk: BootDisk, tmp_path: Path
) -> None:
    disk.add_missing(LABELS)
    data = disk.find(Label.P3)
    assert data is not None
    with data.device.open("r+b") as file:
        file.write(b"LUKS\xba\xbe")
    with pytest.raises(PersistError, match="not ours"):
        open_persist(data.device, tmp_path)
    with data.device.open("rb") as file:
        assert file.read(6) == b"LUKS\xba\xbe"


def test_a_making_that_was_cut_off_is_done_again(disk: BootDisk, tmp_path: Path) -> None:
    disk.add_missing(LABELS)
    data = disk.find(Label.P3)
    assert data is not None
    subprocess.run(["mkfs.ext4", "-q", str(data.device)], check=True, capture_output=True)
    with data.device.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 32 * MIB)
    assert look(data.device) is Holds.UNUSED_EXT4
    open_persist(data.device, tmp_path)
    assert (tmp_path / "lost+found").is_dir()
