"""Paths from outside are walked inside a directory, whatever links lie on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevirt.host.content.rooted import MAX_PATH, Outside, Rooted, split

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    return tmp_path / "root"


@pytest.fixture
def rooted(root: Path) -> Iterator[Rooted]:
    rooted = Rooted(root)
    yield rooted
    rooted.close()


def led_to(rooted: Rooted, path: str) -> str:
    """Where a path leads, as the kernel names it."""
    return os.readlink(f"/proc/self/fd/{rooted.directory(split(path))}")


def test_a_path_is_split_and_an_absolute_one_anchored() -> None:
    assert split("/a//./b/") == ("a", "b")
    assert split("./") == ()


@pytest.mark.parametrize("name", ["..", "a/..", "../a", "a\0b", "a/" * MAX_PATH])
def test_a_name_that_could_mean_something_outside_is_refused(name: str) -> None:
    with pytest.raises(Outside, match="cannot use"):
        split(name)


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/", ""),
        ("../../../..", ""),
        ("/outside", "/outside"),
        ("../outside", "/outside"),
        ("b/../c", "/a/c"),
        ("/a/./c//", "/a/c"),
    ],
)
def test_a_link_leads_where_it_would_for_a_process_rooted_there(
    root: Path, rooted: Rooted, target: str, leads_to: str
) -> None:
    (root / "a").mkdir()
    (root / "a/link").symlink_to(target)
    assert led_to(rooted, "a/link/x") == f"{root}{leads_to}/x"
    assert list((root.parent / "outside").iterdir()) == []


def test_links_that_lead_round_and_round_are_given_up(root: Path, rooted: Rooted) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(Outside, match="too many symbolic links"):
        rooted.directory(("a",))


def test_a_file_in_the_way_is_an_error(root: Path, rooted: Rooted) -> None:
    (root / "file").touch()
    with pytest.raises(NotADirectoryError):
        rooted.directory(("file", "x"))


def test_nothing_is_made_where_that_is_not_wanted(root: Path, rooted: Rooted) -> None:
    with pytest.raises(FileNotFoundError):
        rooted.directory(("a", "b"), make=False)
    assert list(root.iterdir()) == []


def test_what_is_made_is_root_s_and_open_to_all_whatever_the_umask(
    root: Path, rooted: Rooted
) -> None:
    before = os.umask(0o077)
    try:
        rooted.directory(("a", "b"))
    finally:
        os.umask(before)
    for path in (root, root / "a", root / "a/b"):
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 0, 0o755)


def test_removal_takes_whatever_is_there_and_follows_no_link(root: Path, rooted: Rooted) -> None:
    (root.parent / "outside/kept").touch()
    (root / "link").symlink_to(root.parent / "outside")
    (root / "tree/deep").mkdir(parents=True)
    (root / "file").touch()
    for name in ("link", "tree", "file", "nothing"):
        rooted.remove((name,))
    assert list(root.iterdir()) == []
    assert (root.parent / "outside/kept").exists()


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    rooted = Rooted(root)
    (root / "loop").symlink_to("loop")
    for path in (("a", "b"), ("a",), ("loop",), ()):
        try:
            rooted.directory(path)
        except Outside:
            continue
    rooted.close()
    assert len(os.listdir("/proc/self/fd")) == before
