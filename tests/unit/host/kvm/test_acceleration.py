"""The probe of this machine's own virtualization, which may hang: nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevirt.host.kvm.acceleration import (
    KVM,
    PROGRAM,
    TCG,
    _starts_guests,
    acceleration,
    processor,
)
from tests.parts.host_node import children_of, eventually, name_of

pytestmark = pytest.mark.slow

PROBE = "from edgevirt.host.kvm import acceleration; acceleration._starts_guests()"


def test_what_is_told_is_what_was_tried() -> None:
    starts = Path("/dev/kvm").exists() and _starts_guests()
    assert acceleration() == (KVM if starts else TCG)


def fake_qemu(directory: Path, script: str) -> dict[str, str]:
    """The environment in which it is found first."""
    program = directory / PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


def test_the_processor_that_is_tried_is_the_one_that_guests_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtualization that lacks registers of its own processor starts another one at ease."""
    said = tmp_path / "said"
    environment = fake_qemu(tmp_path, f'echo "$@" >> {said}; exit 33')
    monkeypatch.setenv("PATH", environment["PATH"])
    assert _starts_guests()
    assert f"-accel kvm -cpu {processor(KVM)} " in said.read_text()


def test_a_probe_ends_with_the_process_that_was_killed_during_it(tmp_path: Path) -> None:
    environment = fake_qemu(tmp_path, '[ "$1" = --version ] || exec sleep 300')
    process = subprocess.Popen([sys.executable, "-c", PROBE], env=environment)
    try:
        eventually(lambda: bool(hanging(process.pid)), "the probe hangs", 30.0)
        probes = hanging(process.pid)
    finally:
        process.kill()
        process.wait()
    eventually(
        lambda: not any(os.path.exists(f"/proc/{probe}") for probe in probes),
        "no probe is left",
        10.0,
    )


def hanging(parent: int) -> list[int]:
    return [child for child in children_of(parent) if name_of(child) == "sleep"]
