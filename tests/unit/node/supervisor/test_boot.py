"""The node says why its run before ended, whatever that run managed to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.model.machine import BootReason
from edgevirt.node.paths import Paths
from edgevirt.node.supervisor.boot import End, record_end, record_start


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "persist").mkdir()
    return Paths(config=tmp_path / "config", persist=tmp_path / "persist", run=tmp_path / "run")


def test_the_first_start_is_called_the_first(paths: Paths) -> None:
    boot = record_start(paths, 10.0)
    assert (boot.count, boot.reason, boot.ended) == (1, BootReason.FIRST, 0.0)


def test_a_reboot_that_was_asked_for_is_told_with_its_reason_once(paths: Paths) -> None:
    record_start(paths, 10.0)
    record_end(paths, End(at=20.0, reason=BootReason.REBOOT_COMMAND, text="counter 2"))
    boot = record_start(paths, 30.0)
    assert (boot.count, boot.reason, boot.text) == (2, BootReason.REBOOT_COMMAND, "counter 2")
    assert boot.ended == 20.0
    assert record_start(paths, 40.0).reason is BootReason.POWER_FAIL


def test_a_run_that_was_cut_off_counts_as_a_power_failure(paths: Paths) -> None:
    record_start(paths, 10.0)
    assert record_start(paths, 30.0).reason is BootReason.POWER_FAIL


@pytest.mark.parametrize("damage", [b"", b"{", b'{"at": "x"}'])
def test_a_damaged_record_never_keeps_the_node_from_starting(paths: Paths, damage: bytes) -> None:
    record_start(paths, 10.0)
    paths.end_record.write_bytes(damage)
    assert record_start(paths, 20.0).count == 2
    paths.boot_record.write_bytes(damage)
    assert record_start(paths, 30.0).count == 1
