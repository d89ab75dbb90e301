"""The kernel's last words are told once, and a few of them are kept."""

from __future__ import annotations

from pathlib import Path

from edgevirt.host.boot.panics import take_panic

WORDS = "<6>all is well\n<0>Kernel panic - not syncing: Fatal exception\n<0>Call Trace: f+0x1\n"


def test_a_panic_is_taken_out_of_the_store_and_kept(tmp_path: Path) -> None:
    store, kept = tmp_path / "store", tmp_path / "kept"
    store.mkdir()
    (store / "dmesg-efi-1").write_text(WORDS)
    assert "Kernel panic" in take_panic(kept, "1", store)
    assert (kept / "1" / "dmesg").read_text() == WORDS
    assert take_panic(kept, "2", store) == ""


def test_only_the_last_five_are_kept(tmp_path: Path) -> None:
    store, kept = tmp_path / "store", tmp_path / "kept"
    store.mkdir()
    for number in range(8):
        (store / "dmesg-efi-1").write_text(WORDS)
        take_panic(kept, f"t{number}", store)
    assert sorted(path.name for path in kept.iterdir()) == ["t3", "t4", "t5", "t6", "t7"]


def test_of_a_long_log_the_part_around_the_panic_is_told(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "dmesg-efi-1").write_text("x" * 30_000 + WORDS)
    told = take_panic(tmp_path / "kept", "1", store)
    assert "Call Trace" in told
    assert len(told) <= 8_000


def test_a_machine_without_a_store_has_no_panic(tmp_path: Path) -> None:
    assert take_panic(tmp_path / "kept", "1", tmp_path / "nowhere") == ""
