"""Steps of a build are skipped only when nothing that shapes them changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.image.cache import Cache, hash_files


def test_the_same_inputs_are_made_once(tmp_path: Path) -> None:
    made: list[str] = []

    def make(out: Path) -> None:
        made.append(out.name)
        out.write_text("x")

    cache = Cache(tmp_path)
    first = cache.step("a", {"x": 1}, make)
    assert cache.step("a", {"x": 1}, make) == first
    assert cache.step("a", {"x": 2}, make) != first
    assert len(made) == 2


def test_what_failed_half_way_is_not_there(tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        out.write_text("half")
        raise OSError("no room")

    cache = Cache(tmp_path)
    with pytest.raises(OSError, match="no room"):
        cache.step("a", {}, fail)
    done = cache.step("a", {}, lambda out: out.mkdir())
    assert done.path.is_dir()


def test_a_changed_file_changes_the_hash_and_bytecode_does_not(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = hash_files(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("2")
    assert hash_files(tmp_path) == before
    (tmp_path / "a.py").write_text("2")
    assert hash_files(tmp_path) != before


def test_a_file_that_is_not_there_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_files(tmp_path / "moved.py")
