"""The probe of this machine's own virtualization, which may hang: nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevirt.host.kvm.acceleration import KVM, TCG, _starts_guests, acceleration
from tests.host_node import children_of, eventually

pytestmark = pytest.mark.slow

PROBE = "from edgevirt.host import acceleration; acceleration._starts_guests()"


def test_what_is_told_is_what_was_tried() -> None:
    starts = Path("/dev/kvm").exists() and _starts_guests()
    assert acceleration() == (KVM if starts else TCG)


def test_a_probe_ends_with_the_process_that_was_killed_during_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", PROBE])
    try:
        deadline = time.monotonic() + 30
        probes: list[int] = []
        while not probes and process.poll() is None and time.monotonic() < deadline:
            probes = children_of(process.pid)
    finally:
        process.kill()
        process.wait()
    eventually(
        lambda: not any(os.path.exists(f"/proc/{probe}") for probe in probes),
        "no probe is left",
        10.0,
    )
