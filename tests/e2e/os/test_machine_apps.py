"""A virtual machine on the booted operating system: all that it needs is in the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.machine_apps import add_disk, add_machine, running, says
from tests.e2e.os.os_system import os_system
from tests.guest_world import unikernel

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]

EMULATED = 600.0
"""Seconds for a guest within a guest."""


def test_the_system_s_own_qemu_runs_a_unikernel(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(unikernel())
    with os_system(tmp_path / "system", memory=2048) as system:
        system.lay_disk()
        system.power_on()
        system.online(EMULATED)
        add_disk(system, "unikernel", kernel)
        add_machine(system, "within", "unikernel", type="Unikernel", command=["say", "deep"])
        system.eventually("it runs", lambda: running(system, "within"), EMULATED)
        says(system, "within", "deep", EMULATED)
