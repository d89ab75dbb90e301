"""Files of persistent kinds: whatever happens, the old value or the new one is there."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.runtime import Kind, StoreError
from edgevirt.runtime.persist import Directory, file_name


class Value(msgspec.Struct, frozen=True):
    text: str


KIND = Kind("Value", Value, persistent=True)
LOG = logging.getLogger("test")


class Crash(BaseException):
    """The process ends here."""


def directory(path: Path, crash_at: int | None = None) -> Directory[Value]:
    steps = iter(range(1_000))

    def step(name: str) -> None:
        if next(steps) == crash_at:
            raise Crash(name)

    return Directory(path, KIND, LOG, step=step)


def put(files: Directory[Value], key: str, text: str, version: int = 1) -> None:
    files.put(key, version, KIND.encode(Value(text)))


def texts(path: Path) -> dict[str, str]:
    return {key: value.text for key, (_, value) in directory(path).load().values.items()}


# -- crashes --


def crash_points(path: Path, write: str) -> list[dict[str, str]]:
    """What is found after a crash before each step of `write` in turn, until it needs no more."""
    found = []
    for point in range(1_000):
        place = path / str(point)
        files = directory(place)
        files.load()
        if write != "put first":
            put(files, "k", "older", 1)
            put(files, "k", "old", 2)
        try:
            breaking = directory(place, crash_at=point)
            breaking.delete("k", 3) if write == "delete" else put(breaking, "k", "new", 3)
        except Crash:
            found.append(texts(place))
            assert texts(place) == found[-1], "finding it changed it"
            continue
        assert texts(place) == ({} if write == "delete" else {"k": "new"})
        return found
    raise AssertionError("the write never ends")


@pytest.mark.parametrize(
    ("write", "before", "after"),
    [
        ("put first", {}, {"k": "new"}),
        ("put again", {"k": "old"}, {"k": "new"}),
        ("delete", {"k": "old"}, {}),
    ],
)
def test_a_crash_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, write: str, before: dict[str, str], after: dict[str, str]
) -> None:
    found = crash_points(tmp_path, write)
    assert len(found) >= 6
    turn = found.index(after)
    assert found[:turn] == [before] * turn
    assert found[turn:] == [after] * (len(found) - turn)


def test_a_crash_while_loading_loses_nothing(tmp_path: Path) -> None:
    for point in range(1_000):
        place = tmp_path / str(point)
        files = directory(place)
        files.load()
        put(files, "a", "1")
        put(files, "b", "2")
        with pytest.raises(Crash):
            directory(place, crash_at=7).delete("b", 3)
        try:
            directory(place, crash_at=point).load()
        except Crash:
            assert texts(place) == {"a": "1"}
            assert {path.name for path in place.iterdir()} == {"a", ".versions"}
        else:
            return


def test_a_crash_while_the_file_is_written_leaves_no_rest(tmp_path: Path) -> None:
    files = directory(tmp_path)
    files.load()
    put(files, "k", "old")
    with pytest.raises(Crash):
        put(directory(tmp_path, crash_at=2), "k", "new", 2)
    assert (tmp_path / "k.new").exists()
    assert texts(tmp_path) == {"k": "old"}
    assert not (tmp_path / "k.new").exists()


def test_a_full_disk_is_said_and_the_old_value_stays(tmp_path: Path) -> None:
    def full(name: str) -> None:
        if name == "write":
            raise OSError(28, "No space left on device")

    files = directory(tmp_path)
    files.load()
    put(files, "k", "old")
    broken = Directory(tmp_path, KIND, LOG, step=full)
    with pytest.raises(StoreError, match=r"cannot keep Value 'k': .*No space left"):
        put(broken, "k", "new", 2)
    with pytest.raises(StoreError, match="cannot delete Value 'k'"):
        broken.delete("k", 2)
    assert texts(tmp_path) == {"k": "old"}


# -- damage --


def damaged(path: Path, damage: bytes) -> None:
    files = directory(path)
    files.load()
    put(files, "k", "old", 1)
    put(files, "k", "new", 2)
    (path / "k").write_bytes(damage)


def test_any_flipped_byte_falls_back_to_the_value_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged(tmp_path, b"")
    files = directory(tmp_path)
    files.load()
    put(files, "k", "new", 3)
    whole = (tmp_path / "k").read_bytes()
    for position in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[position] ^= 0x20
        (tmp_path / "k").write_bytes(spoilt)
        caplog.clear()
        assert texts(tmp_path) == {"k": "old"}
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        assert f"cannot read {tmp_path / 'k'} (" in warning.message
        assert f"from {tmp_path / 'k.prev'}" in warning.message


@pytest.mark.parametrize("kept", [0, 1, 10, 40, 60])
def test_a_half_written_file_falls_back_to_the_value_before(
    tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    files = directory(tmp_path)
    files.load()
    put(files, "k", "old", 1)
    put(files, "k", "a longer new value", 2)
    whole = (tmp_path / "k").read_bytes()
    (tmp_path / "k").write_bytes(whole[:kept])
    assert texts(tmp_path) == {"k": "old"}
    assert "the value before it is used" in caplog.text


def test_a_file_that_vanished_falls_back_to_the_value_before(tmp_path: Path) -> None:
    damaged(tmp_path, b"")
    (tmp_path / "k").unlink()
    assert texts(tmp_path) == {"k": "old"}


def test_after_a_fall_back_the_good_value_is_in_its_place_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged(tmp_path, b"rubbish")
    assert texts(tmp_path) == {"k": "old"}
    assert (tmp_path / "k.corrupt").read_bytes() == b"rubbish"
    caplog.clear()
    assert texts(tmp_path) == {"k": "old"}
    assert caplog.text == ""


def test_a_key_with_no_good_file_is_set_aside_and_the_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged(tmp_path, b"rubbish")
    (tmp_path / "k.prev").write_bytes(b"rubbish too")
    put(directory(tmp_path), "other", "fine")
    assert texts(tmp_path) == {"other": "fine"}
    assert "set aside as .corrupt" in caplog.text
    assert (tmp_path / "k.corrupt").read_bytes() == b"rubbish"
    assert (tmp_path / "k.prev.corrupt").read_bytes() == b"rubbish too"
    caplog.clear()
    assert texts(tmp_path) == {"other": "fine"}
    assert caplog.text == ""


def test_a_value_of_another_type_counts_as_damage(tmp_path: Path) -> None:
    class Newer(msgspec.Struct, frozen=True):
        number: int

    newer = Kind("Value", Newer, persistent=True)
    files = directory(tmp_path)
    files.load()
    put(files, "k", "old", 1)
    kept = Directory(tmp_path, newer, LOG).load()
    assert kept.values == {}
    assert (tmp_path / "k.corrupt").exists()


def test_a_file_under_another_keys_name_is_not_believed(tmp_path: Path) -> None:
    files = directory(tmp_path)
    files.load()
    put(files, "a", "mine")
    (tmp_path / "a").rename(tmp_path / "b")
    assert texts(tmp_path) == {}


# -- versions --


def test_versions_never_repeat_over_restarts(tmp_path: Path) -> None:
    first = directory(tmp_path).load().version
    put(directory(tmp_path), "k", "x", first + 5)
    second = directory(tmp_path).load().version
    directory(tmp_path).delete("k", second + 9)
    third = directory(tmp_path).load().version
    assert first + 5 <= second
    assert second + 9 <= third


@pytest.mark.parametrize("spoil", [b"", b"rubbish", None])
def test_versions_go_on_above_all_that_is_known_when_their_file_is_lost(
    tmp_path: Path, spoil: bytes | None
) -> None:
    version = directory(tmp_path).load().version + 3
    put(directory(tmp_path), "k", "x", version)
    place = tmp_path / ".versions"
    place.unlink() if spoil is None else place.write_bytes(spoil)
    assert directory(tmp_path).load().version > version


# -- names --


@given(st.lists(st.text(), unique=True, max_size=20))
def test_file_names_are_safe_and_distinct(keys: list[str]) -> None:
    names = [file_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    for name in names:
        assert 0 < len(name) <= 200
        assert not set(name) & set("./\0")


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    place = tmp_path / "kind"
    files = directory(place)
    files.load()
    put(files, "k", "x")
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "k").stat().st_mode & 0o777 == 0o600
