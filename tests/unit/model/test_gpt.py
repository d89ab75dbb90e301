"""A disk's partitions are found by label and type, also when the table's first copy is damaged."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from edgevirt.host.disk.table import read_table
from edgevirt.model.disk import MIB, SECTOR, Label, partition
from edgevirt.model.gpt import Entry, TableError, format_table, has_old_table, plan_missing, usable
from edgevirt.model.gpt import read_table as read_bytes

IMGA = partition(Label.IMGA)
P3 = partition(Label.P3)
ALL = (Label.IMGA, Label.IMGB, Label.P3)


def make_disk(path: Path, size: int, *rows: tuple[Label, int]) -> Path:
    """A sparse disk with these partitions, of so many MiB each."""
    with path.open("wb") as file:
        file.truncate(size * MIB)
    arguments = ["-o"]
    for number, (label, mebi) in enumerate(rows, 1):
        arguments += [f"-n{number}:0:+{mebi}M", f"-t{number}:{partition(label).type}"]
        arguments += [f"-c{number}:{label}"]
    subprocess.run(["sgdisk", *arguments, str(path)], check=True, capture_output=True)
    return path


def test_a_partition_needs_its_label_and_its_type(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 64, (Label.IMGA, 8), (Label.CONFIG, 2))
    table = read_table(disk)
    found = table.find(Label.IMGA)
    assert found is not None
    assert (found.number, found.size) == (1, 8 * MIB)
    assert table.find(Label.IMGB) is None
    subprocess.run(["sgdisk", "-t1:8300", str(disk)], check=True, capture_output=True)
    assert read_table(disk).find(Label.IMGA) is None


def test_the_copy_at_the_end_counts_when_the_table_is_damaged(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 64, (Label.IMGA, 8))
    with disk.open("r+b") as file:
        file.seek(SECTOR + 60)
        file.write(b"\xff\xff")
    assert read_table(disk).find(Label.IMGA) is not None
    with disk.open("r+b") as file:
        file.seek(-SECTOR, 2)
        file.write(bytes(SECTOR))
    with pytest.raises(TableError, match="cannot read the partition table"):
        read_table(disk)


@pytest.mark.parametrize("content", [b"", b"\x00" * 4096, b"EFI PART" * 512])
def test_what_is_no_table_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(content)
    with pytest.raises(TableError, match="cannot read the partition table"):
        read_table(disk)


def test_the_second_slot_and_the_data_take_the_free_space(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 1024, (Label.IMGA, 64))
    table = read_table(disk)
    sizes = {Label.IMGA: 64 * MIB, Label.IMGB: 64 * MIB, Label.P3: 0}
    imgb, data = plan_missing(table, ALL, sizes)
    assert (imgb.label, data.label) == (Label.IMGB, Label.P3)
    assert imgb.last - imgb.first + 1 == 64 * MIB // SECTOR
    assert data.first == imgb.last + 1
    assert (data.last - data.first + 1) * SECTOR > 880 * MIB
    assert imgb.first % 2048 == data.first % 2048 == 0


def test_data_comes_before_a_second_slot_where_both_do_not_fit(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 400, (Label.IMGA, 64))
    sizes = {Label.IMGA: 64 * MIB, Label.IMGB: 200 * MIB, Label.P3: 0}
    made = plan_missing(read_table(disk), ALL, sizes)
    assert [new.label for new in made] == [Label.P3]


def test_a_slot_whose_number_is_taken_is_not_made_where_nobody_would_boot_it(
    tmp_path: Path,
) -> None:
    rows = [(Label.IMGA, 8), (Label.CONFIG, 2), (Label.INVENTORY, 2)]
    disk = make_disk(tmp_path / "disk", 512, *rows)
    sizes = {Label.IMGB: 8 * MIB, Label.P3: 0}
    made = plan_missing(read_table(disk), (Label.IMGB, Label.P3), sizes)
    assert [(new.label, new.number) for new in made] == [(Label.P3, 9)]


DISK_GUID = "0a0a0a0a-1111-4222-8333-444444444444"


def two_entries(size: int, sector: int) -> tuple[Entry, ...]:
    mib, last = MIB // sector, usable(size, sector)[1]
    esp, data = partition(Label.ESP).type, partition(Label.P3).type
    return (
        Entry(1, esp, str(uuid.uuid4()), mib, 2 * mib - 1, Label.ESP, sector),
        Entry(9, data, str(uuid.uuid4()), 2 * mib, last, Label.P3, sector),
    )


@pytest.mark.parametrize("damaged", [False, True])
def test_a_table_of_long_sectors_is_read_also_from_its_copy(damaged: bool) -> None:
    size = 64 * MIB
    rows = two_entries(size, 4096)
    written = format_table(size, DISK_GUID, rows, b"", 4096)
    disk = bytearray(size)
    pieces = (written.backup, written.protective) if damaged else (written.table,)
    for offset, content in pieces:
        disk[offset : offset + len(content)] = content
    table = read_bytes(lambda offset, length: bytes(disk[offset : offset + length]), size)
    assert table.entries == rows
    assert table.get(Label.ESP).start == table.get(Label.ESP).size == MIB
    assert table.gaps() == []


def test_a_written_table_is_what_other_programs_read(tmp_path: Path) -> None:
    size = 64 * MIB
    rows = two_entries(size, SECTOR)
    written = format_table(size, DISK_GUID, rows, b"code")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(size)
        for offset, content in (written.backup, written.table, written.protective):
            file.seek(offset)
            file.write(content)
    assert read_table(disk).entries == rows
    done = subprocess.run(["sgdisk", "-v", str(disk)], check=True, capture_output=True, text=True)
    assert "No problems found" in done.stdout
    shown = subprocess.run(["sgdisk", "-p", str(disk)], check=True, capture_output=True, text=True)
    assert DISK_GUID.upper() in shown.stdout


def test_a_table_of_old_is_told_from_the_one_that_protects_ours() -> None:
    protective = format_table(64 * MIB, DISK_GUID, (), b"").protective[1]
    assert not has_old_table(protective)
    old = bytearray(protective)
    old[450] = 0x0C
    assert has_old_table(bytes(old))
    assert not has_old_table(bytes(512))
