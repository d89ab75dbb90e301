"""The journal of kinds that live as long as the node's run."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from edgevirt.runtime import StoreError
from edgevirt.runtime.journal import SMALL, Journal

LOG = logging.getLogger("test")
ONE, TWO = b"\x01", b"\x02"
"""Encoded values: small integers."""


def written(path: Path) -> bytes:
    journal = Journal(path, LOG)
    journal.load()
    journal.put("a", 1, ONE)
    journal.put("b", 2, ONE)
    journal.delete("a", 3)
    journal.put("b", 4, TWO)
    journal.close()
    return path.read_bytes()


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    written(tmp_path / "j")
    journal = Journal(tmp_path / "j", LOG)
    loaded = journal.load()
    journal.close()
    assert loaded.values == {"b": (4, TWO)}
    assert loaded.version == 4


def test_a_torn_end_is_cut_off_wherever_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = written(tmp_path / "j")
    states = set()
    for length in range(len(whole)):
        path = tmp_path / str(length)
        path.write_bytes(whole[:length])
        journal = Journal(path, LOG)
        loaded = journal.load()
        states.add(tuple(loaded.values.items()))
        journal.put("c", loaded.version + 1, ONE)
        journal.close()
        again = Journal(path, LOG)
        assert again.load().values == {**loaded.values, "c": (loaded.version + 1, ONE)}
        again.close()
    a, b = ("a", (1, ONE)), ("b", (2, ONE))
    assert states == {(), (a,), (a, b), (b,)}
    assert "torn bytes" in caplog.text


def test_after_a_torn_end_no_version_is_given_twice(tmp_path: Path) -> None:
    whole = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(whole[:-1])
    journal = Journal(tmp_path / "j", LOG)
    assert journal.load().version > 4
    journal.close()


def test_what_follows_damage_is_not_believed(tmp_path: Path) -> None:
    whole = bytearray(written(tmp_path / "j"))
    whole[12] ^= 0xFF
    (tmp_path / "j").write_bytes(whole)
    journal = Journal(tmp_path / "j", LOG)
    assert journal.load().values == {}
    journal.close()


def test_it_is_rewritten_when_it_has_grown_and_keeps_values_and_version(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", LOG)
    journal.load()
    value = b"\xc5\xff\xff" + bytes(0xFFFF)
    version = 0
    while not journal.bloated:
        version += 1
        journal.put("a", version, value)
    journal.delete("a", version + 1)
    assert (tmp_path / "j").stat().st_size > SMALL
    journal.rewrite([("b", 1, ONE)], version + 1)
    assert not journal.bloated
    assert (tmp_path / "j").stat().st_size < 100
    journal.put("c", version + 2, TWO)
    journal.close()
    again = Journal(tmp_path / "j", LOG)
    loaded = again.load()
    again.close()
    assert loaded.values == {"b": (1, ONE), "c": (version + 2, TWO)}
    assert loaded.version == version + 2


def test_the_empty_key_is_a_key_like_any_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", LOG)
    journal.load()
    journal.rewrite([("", 1, ONE)], 7)
    journal.close()
    again = Journal(tmp_path / "j", LOG)
    loaded = again.load()
    again.close()
    assert loaded.values == {"": (1, ONE)}
    assert loaded.version == 7


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "j").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot keep values"):
        Journal(tmp_path / "j", LOG)


@pytest.mark.root
def test_a_file_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"")
    os.chown(tmp_path / "j", 64_199, 64_199)
    with pytest.raises(StoreError, match="somebody else made it"):
        Journal(tmp_path / "j", LOG)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    written(tmp_path / "j")
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600
