"""A disk that was not written to its end is known as such; one that was holds what it should."""

from __future__ import annotations

import hashlib
import subprocess
import uuid
from pathlib import Path

import pytest

from edgevirt.host.disk.fat import locate
from edgevirt.host.disk.fat_files import FatFilesError, copy_volume, put_files, remove_files
from edgevirt.host.disk.table import read_table
from edgevirt.host.disk.writer import Piece, WriteError, open_writer
from edgevirt.model.disk import MIB, SECTOR, Label, partition
from edgevirt.model.gpt import Entry, TableError, Written, format_table

MARK = b"unfinished"
SIZE = 64 * MIB


def make_table() -> Written:
    kind = partition(Label.IMGA).type
    rows = [Entry(2, kind, str(uuid.uuid4()), 4096, 8191, Label.IMGA)]
    return format_table(SIZE, str(uuid.uuid4()), rows, b"boot code")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """With an old table on it, and something in it."""
    path = tmp_path / "disk"
    path.write_bytes(b"\xa5" * SIZE)
    table = make_table()
    with path.open("r+b") as file:
        for offset, content in (table.backup, table.table, table.protective):
            file.seek(offset)
            file.write(content)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 8192 + b"end")
    return path


def piece(source: Path, sha256: str = "") -> Piece:
    return Piece("IMGA", 4096 * SECTOR, source, source.stat().st_size, sha256=sha256)


def test_what_is_begun_is_neither_the_old_disk_nor_the_new_one(disk: Path, source: Path) -> None:
    with open_writer(disk) as writer:
        writer.begin(MARK)
        writer.copy(piece(source))
    assert disk.read_bytes().startswith(MARK)
    with pytest.raises(TableError):
        read_table(disk)


def test_what_is_finished_has_its_table_and_every_piece(disk: Path, source: Path) -> None:
    with open_writer(disk) as writer:
        writer.begin(MARK)
        writer.clear_ends(20 * MIB, 20 * MIB, MIB)
        writer.copy(piece(source))
        writer.finish(make_table())
    content = disk.read_bytes()
    imga = read_table(disk).get(Label.IMGA)
    assert content[imga.start :].startswith(source.read_bytes())
    assert content.startswith(b"boot code")
    assert content[510:512] == b"\x55\xaa"
    for at in (20 * MIB, 39 * MIB):
        assert content[at : at + MIB] == bytes(MIB)


def test_a_medium_that_lost_a_bit_is_told_and_nothing_boots(disk: Path, source: Path) -> None:
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    source.write_bytes(source.read_bytes().replace(b"end", b"enD"))
    with open_writer(disk) as writer:
        writer.begin(MARK)
        with pytest.raises(WriteError, match="not what was built"):
            writer.copy(piece(source, sha256=wanted))
    assert disk.read_bytes().startswith(MARK)


def test_a_disk_that_loses_what_it_is_given_never_gets_a_table(disk: Path, source: Path) -> None:
    with open_writer(disk) as writer:
        writer.begin(MARK)
        writer.copy(piece(source))
        with disk.open("r+b") as other:
            other.seek(4096 * SECTOR + 100)
            other.write(b"lost")
        with pytest.raises(WriteError, match="does not keep what it is given"):
            writer.finish(make_table())
    assert disk.read_bytes().startswith(MARK)


def test_an_erased_disk_is_empty_at_both_ends(disk: Path) -> None:
    with open_writer(disk) as writer:
        writer.erase()
    content = disk.read_bytes()
    assert content[:MIB] == content[-MIB:] == bytes(MIB)


def test_files_are_put_into_a_volume_and_taken_out(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    subprocess.run(["mkfs.vfat", "-C", str(volume), "4096"], check=True, capture_output=True)
    put_files(volume, {"a/b/record.json": b"{}", "top": b"1"})
    put_files(volume, {"a/b/record.json": b"[]"})
    remove_files(volume, ["top", "absent"])
    shown = subprocess.run(
        ["mtype", "-i", str(volume), "::/a/b/record.json"], check=True, capture_output=True
    )
    assert shown.stdout == b"[]"
    listed = subprocess.run(["mdir", "-i", str(volume), "-b"], check=True, capture_output=True)
    assert b"top" not in listed.stdout
    with pytest.raises(FatFilesError, match="cannot write to"):
        put_files(tmp_path / "none", {"x": b""})


@pytest.mark.parametrize("size", [5 * MIB, 36 * MIB])
def test_a_volume_is_copied_whole_into_one_with_long_sectors(tmp_path: Path, size: int) -> None:
    volume, long = tmp_path / "volume", tmp_path / "long"
    subprocess.run(["mkfs.vfat", "-C", str(volume), "4096"], check=True, capture_output=True)
    block = b"# GRUB Environment Block\n".ljust(1024, b"#")
    files = {"EFI/BOOT/grubenv": block, "DevicePortConfig/override.json": b"{}", "server": b"a:1"}
    put_files(volume, files)
    copy_volume(volume, long, size, 4096)
    assert long.stat().st_size == size
    assert long.read_bytes()[11:13] == (4096).to_bytes(2, "little")
    subprocess.run(["fsck.vfat", "-n", str(long)], check=True, capture_output=True)
    for name, content in files.items():
        shown = subprocess.run(["mtype", "-i", str(long), f"::/{name}"], capture_output=True)
        assert shown.stdout == content
    with long.open("rb") as file:
        clusters, _ = locate(file, "EFI/BOOT/grubenv")
        file.seek(clusters[0])
        assert file.read(len(block)) == block
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "secrets stay behind"
