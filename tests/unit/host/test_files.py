"""Whole writes, and removal of whatever a workload made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevirt.host.files import remove_tree, room, sync_file_system, write_whole

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
