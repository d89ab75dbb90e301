"""How long the operating system takes from the firmware's hand-over until it is onboarded, and what
its memory holds then, without apps.

Beside the boot stands the same kernel and disk with an image whose process 1 only says that it is
there: what the loader, the kernel and the measuring of the root image take by themselves. In
machines of their own, emulated where this machine's virtualization cannot start a guest. Needs root
and `make image`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from edgevirt.host.disk.table import read_table
from edgevirt.image.machine import Machine, MachineSpec, machine
from edgevirt.model.disk import Label
from tests.e2e.os.os_system import OsSystem, os_system
from tests.e2e.os.variants import Workshop
from tests.e2e.system import NODE

ROUNDS = 3
PATIENCE = 240.0
SETTLE = 60.0
HANDED_OVER = "EFI stub:"
ONBOARDED = "state        online"
BARE = "bare init runs"
MEBI = 1 << 20
EVE_MEMORY = 640.0
"""MiB: the soft limit of EVE's own control group."""


def run() -> list[dict[str, Any]]:
    ours, bare, memory = [], [], 0.0
    with tempfile.TemporaryDirectory() as directory:
        image = _bare_image(Path(directory))
        for number in range(ROUNDS):
            folder = Path(directory, str(number))
            with os_system(folder / "ours") as system:
                system.lay_disk()
                system.power_on()
                ours.append(_between(system.machine, ONBOARDED))
                memory = memory or _memory(system)
                bare.append(_boot_bare(folder / "bare", system, image))
    beside = statistics.median(bare)
    boot, used = statistics.median(ours), memory / MEBI
    return [
        _row("OS, hand-over to onboarded", boot, "s", "the same with a bare init", beside),
        _row("OS, memory in use, idle", used, "MiB", "what EVE gives its services", EVE_MEMORY),
    ]


def _between(booting: Machine, end: str) -> float:
    """Seconds from firmware's hand-over to a line of the console."""
    began = _seen(booting, HANDED_OVER)
    return _seen(booting, end) - began


def _seen(booting: Machine, text: str) -> float:
    deadline = time.monotonic() + PATIENCE
    while text not in booting.printed():
        if not booting.running or time.monotonic() > deadline:
            raise RuntimeError(f"cannot measure: no {text!r}:\n{booting.printed()[-2000:]}")
        time.sleep(0.02)
    return time.monotonic()


def _memory(system: OsSystem) -> float:
    """Bytes, as the node reports them when it has been idle for a while."""
    time.sleep(SETTLE)
    client = system.fleet.client
    type_ = client.type_of("edgenodes")
    usage = client.read(type_.path("default", NODE, "metrics"))
    return float(usage["memoryBytes"])


def _bare_image(directory: Path) -> Path:
    workshop = Workshop(directory / "images", directory / "scratch")
    return workshop.directory / workshop.make("bare", _only_speak).file


def _only_speak(tree: Path) -> None:
    init = tree / "sbin/init"
    init.unlink()
    init.write_text(f"#!/usr/bin/busybox sh\necho {BARE} >/dev/console\nexec sleep 3600\n")
    init.chmod(0o755)


def _boot_bare(state: Path, system: OsSystem, image: Path) -> float:
    """On the disk of `system`, whose power is cut."""
    system.machine.cut_power()
    place = read_table(system.disk).get(Label.IMGA)
    with system.disk.open("r+b") as disk:
        disk.seek(place.start)
        disk.write(image.read_bytes())
    spec = MachineSpec(state=state, disks=(system.disk,), memory=system.machine.spec.memory)
    with machine(spec) as bare:
        return _between(bare, BARE)


def _row(name: str, value: float, unit: str, beside: str, theirs: float) -> dict[str, Any]:
    return {
        "name": name, "value": value, "unit": unit, "beside": beside, "beside_value": theirs,
        "ratio": value / theirs, "aim": "",
    }  # fmt: skip
