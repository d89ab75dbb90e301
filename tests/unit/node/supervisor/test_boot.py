"""The node says why its run before ended, whatever that run managed to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.model.machine import BootReason
from edgevirt.node.paths import Paths
from edgevirt.node.supervisor.boot import End, Traces, record_end, record_start


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


def end_with(reason: BootReason, slot: str) -> End:
    return End(at=20.0, reason=reason, text="update to 2", slot=slot)


def test_a_new_version_that_never_came_up_is_told_as_a_fall_back(paths: Paths) -> None:
    record_start(paths, 10.0, "IMGA")
    record_end(paths, end_with(BootReason.UPDATE, "IMGA"))
    boot = record_start(paths, 30.0, "IMGA")
    assert boot.reason is BootReason.FALLBACK
    assert "never came up" in boot.text


def test_a_new_version_that_came_up_was_started_for_the_update(paths: Paths) -> None:
    record_start(paths, 10.0, "IMGA")
    record_end(paths, end_with(BootReason.UPDATE, "IMGA"))
    boot = record_start(paths, 30.0, "IMGB")
    assert (boot.reason, boot.slot) == (BootReason.UPDATE, "IMGB")


@pytest.mark.parametrize(
    ("traces", "reason"),
    [
        (Traces(panic="Kernel panic - not syncing"), BootReason.KERNEL),
        (Traces(watchdog=True), BootReason.HARDWARE_WATCHDOG),
        (Traces(), BootReason.POWER_FAIL),
    ],
)
def test_a_run_without_a_word_is_told_by_its_traces(
    paths: Paths, traces: Traces, reason: BootReason
) -> None:
    record_start(paths, 10.0)
    boot = record_start(paths, 30.0, traces=traces)
    assert boot.reason is reason
    assert boot.stack == traces.panic


def test_a_panic_of_the_new_version_is_why_it_failed(paths: Paths) -> None:
    record_start(paths, 10.0, "IMGA")
    record_end(paths, end_with(BootReason.UPDATE, "IMGA"))
    boot = record_start(paths, 30.0, "IMGA", Traces(panic="Kernel panic"))
    assert boot.reason is BootReason.KERNEL
    assert "new version" in boot.text


def test_the_stack_of_what_hung_reaches_the_next_start(paths: Paths) -> None:
    record_start(paths, 10.0)
    end = End(at=20.0, reason=BootReason.WATCHDOG_HUNG, text="agent hung", stack="File x, line 1")
    record_end(paths, end)
    assert record_start(paths, 30.0).stack == "File x, line 1"
