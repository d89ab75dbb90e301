"""What the agent keeps survives every cut, and is never half of two values."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.model.ids import NodeId
from edgevirt.node.agent.checkpoint import Checkpoint, SavedConfig

NODE = NodeId("0f4e4b5a-3f3e-4a55-9b8e-8d8f0d5b9c11")


def a_config(text: bytes) -> SavedConfig:
    return SavedConfig(envelope=text, certificates=b"list", at=1.0)


def test_facts_and_configs_are_there_after_a_restart(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c")
    checkpoint.remember(node=NODE)
    checkpoint.remember(reboot_counter=4)
    checkpoint.save_config(a_config(b"one"))
    checkpoint.save_config(a_config(b"two"))
    again = Checkpoint(tmp_path / "c")
    assert (again.facts.node, again.facts.reboot_counter) == (NODE, 4)
    assert [(name, saved.envelope) for name, saved in again.configs()] == [
        ("config", b"two"),
        ("config.bak", b"one"),
    ]


def test_after_a_crash_the_config_that_proved_itself_comes_first(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save_config(a_config(b"proved"))
    checkpoint.keep_steady()
    checkpoint.save_config(a_config(b"later"))
    checkpoint.save_config(a_config(b"latest"))
    usual = [saved.envelope for _, saved in checkpoint.configs()]
    after = [saved.envelope for _, saved in checkpoint.configs(after_crash=True)]
    assert usual == [b"latest", b"later", b"proved"]
    assert after == [b"proved", b"latest", b"later"]


@pytest.mark.parametrize("damage", [b"", b"\xff", b"\x93\x01"])
def test_a_damaged_file_falls_back_to_the_one_before(tmp_path: Path, damage: bytes) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.remember(node=NODE)
    checkpoint.remember(reboot_counter=4)
    checkpoint.save_config(a_config(b"one"))
    checkpoint.save_config(a_config(b"two"))
    (tmp_path / "config").write_bytes(damage)
    (tmp_path / "facts").write_bytes(damage)
    again = Checkpoint(tmp_path)
    assert [saved.envelope for _, saved in again.configs()] == [b"one"]
    assert again.facts.node == NODE


def test_a_cut_while_writing_leaves_the_present_one(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save_config(a_config(b"one"))
    (tmp_path / "config.part").write_bytes(b"half")
    assert [saved.envelope for _, saved in Checkpoint(tmp_path).configs()] == [b"one"]


def test_nobody_else_reads_what_is_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save_config(a_config(b"one"))
    assert (tmp_path / "config").stat().st_mode & 0o777 == 0o600
