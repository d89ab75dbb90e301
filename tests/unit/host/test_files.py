"""Whole writes, copies, file systems in files, and removal of whatever a workload made."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from edgevirt.host.files import (
    DiskError,
    copy_sparse,
    make_ext4,
    remove_tree,
    room,
    run,
    sync_file_system,
    write_whole,
)

MIB = 1024 * 1024


def test_a_file_is_replaced_as_a_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_whole(path, b"old")
    write_whole(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_directories_deeper_than_any_path_name_are_removed(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(deep)
    assert list(tmp_path.iterdir()) == []


def test_what_links_lead_to_is_not_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/link").symlink_to(outside)
    (tree / "link").symlink_to(outside)
    os.mkfifo(tree / "pipe")
    remove_tree(tree)
    link = tmp_path / "link"
    link.symlink_to(outside)
    remove_tree(link)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "outside"]


def test_names_that_removal_itself_uses_are_removed_too(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(1, 4):
        (tree / f".moved-{number}/x").mkdir(parents=True)
        (tree / f"a{number}/.moved-{number}").mkdir(parents=True)
        (tree / f"a{number}/b").mkdir(parents=True)
    (tree / ".moved-4").touch()
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


def test_removing_what_is_not_there_is_done(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_be_synced_is_an_error(tmp_path: Path) -> None:
    sync_file_system(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_file_system(tmp_path / "nothing")


def test_room_is_less_free_than_there_is(tmp_path: Path) -> None:
    found = room(tmp_path)
    assert 0 < found.free < found.total


async def test_a_copy_keeps_holes_and_shares_no_later_write(tmp_path: Path) -> None:
    source, copied = tmp_path / "source", tmp_path / "copy"
    with open(source, "wb") as file:
        file.truncate(64 * MIB)
        file.seek(MIB)
        file.write(b"data")
    await copy_sparse(source, copied)
    source.write_bytes(b"changed")
    assert copied.stat().st_size == 64 * MIB
    assert copied.stat().st_blocks * 512 < MIB
    with open(copied, "rb") as file:
        file.seek(MIB)
        assert file.read(4) == b"data"


async def test_a_tool_that_fails_tells_what_it_said() -> None:
    with pytest.raises(DiskError, match=r"cannot run cp: exit 1: .*nothing"):
        await run("cp", "--", "/nothing", "/nowhere")
    with pytest.raises(DiskError, match="no-such-tool: it is not installed"):
        await run("no-such-tool")


@pytest.mark.root
async def test_a_full_file_system_in_a_file_is_full_by_itself(tmp_path: Path) -> None:
    disk, mounted = tmp_path / "disk", tmp_path / "mounted"
    await make_ext4(disk, 16 * MIB, "volume-label-that-is-long")
    mounted.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, mounted], check=True)
    try:
        assert mounted.stat().st_uid == 0
        with pytest.raises(OSError, match="No space left") as full:
            (mounted / "big").write_bytes(bytes(17 * MIB))
        assert full.value.errno == errno.ENOSPC
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert disk.stat().st_size == 16 * MIB
    assert room(tmp_path).free > 0
