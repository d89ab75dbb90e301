"""Six apps on one node, as a box of 4 GB has them: what they and the node take of its memory, and
how long it takes until all of them run.

Two containers on the node's kernel, two in machines of their own, a Linux from its disk and a
unikernel, on a whole system: registry, fleet, host-mode node. Memory is the sum of each process's
proportional share (PSS) once all run; beside the apps' part stands what the node reckons them with,
EVE's formula for machines in it. Machines are emulated where this processor starts no guests. Needs
root and `make image`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from edgevirt.image.parts.guest import publish
from edgevirt.model.app import Resources, overhead_kib
from tests.e2e.guest_disk import make_guest_disk
from tests.e2e.machine_apps import add_disk, add_machine, running, says
from tests.e2e.system import System, eventually, whole_system
from tests.worlds.contained import guest_files
from tests.worlds.guest import unikernel

BOX_MIB: Final = 4096
SERVICES_MIB: Final = 640
"""The soft limit of EVE's own control group."""
CONTAINER_MIB, CONTAINED_MIB, LINUX_MIB, UNIKERNEL_MIB = 64, 256, 512, 64
PATIENCE: Final = 600.0
NAMES: Final = ("bare-1", "bare-2", "walled-1", "walled-2", "linux", "unikernel")


def run() -> list[dict[str, Any]]:
    publish(guest_files(), Path(sys.prefix) / "share/edgevirt/guest")
    with tempfile.TemporaryDirectory() as directory, whole_system(Path(directory)) as system:
        _prepare(system)
        before = _memory(system)
        began = time.monotonic()
        ports = _add(system)
        eventually("all run", lambda: all(running(system, name) for name in NAMES), PATIENCE)
        eventually("each answers", lambda: all(map(system.starts, ports)), PATIENCE, 0.5)
        says(system, "linux", "guest: ready", PATIENCE)
        took = time.monotonic() - began
        after = _memory(system)
    return [
        _row("six apps, memory of all", after, "MiB", "a box of 4 GB", BOX_MIB, "≤ 1"),
        _row("  of it the node's", before, "MiB", "EVE's services may take", SERVICES_MIB, ""),
        _row("  of it the apps'", after - before, "MiB", "reckoned by their Apps", _reckoned(), ""),
        _row("six apps, until each answers", took, "s", "", None, ""),
    ]


def _prepare(system: System) -> None:
    """Images in the registry, before the clock runs."""
    kernel = system.directory / "kernel"
    kernel.write_bytes(unikernel())
    add_disk(system, "kernel", kernel)
    folder = system.directory / "disk"
    folder.mkdir()
    add_disk(system, "disk", make_guest_disk(folder))


def _add(system: System) -> list[int]:
    """Ports of those that answer."""
    ports = []
    for name in NAMES[:4]:
        walled = name.startswith("walled")
        memory = CONTAINED_MIB if walled else CONTAINER_MIB
        resources = {"cpu": 1, "memory": f"{memory}Mi"}
        mode = "PV" if walled else "None"
        ports.append(system.add_app(name, resources=resources, virtualization=mode))
    linux = {"cpu": 1, "memory": f"{LINUX_MIB}Mi"}
    add_machine(system, "linux", "disk", type="VM", resources=linux)
    add_machine(system, "unikernel", "kernel", type="Unikernel", command=["say", "hello"])
    return ports


def _reckoned() -> float:
    """MiB, as the node's admission counts them."""
    machines = (CONTAINED_MIB, CONTAINED_MIB, LINUX_MIB, UNIKERNEL_MIB)
    over = sum(overhead_kib(Resources(memory_kib=mib << 10)) for mib in machines) / 1024
    return 2 * CONTAINER_MIB + sum(machines) + over


def _memory(system: System) -> float:
    """MiB: of all processes of the node."""
    total = 0
    for pid in system.processes():
        with contextlib.suppress(OSError):  # it ended
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def _row(
    name: str, value: float, unit: str, beside: str, theirs: float | None, aim: str
) -> dict[str, Any]:
    return {
        "name": name, "value": value, "unit": unit, "beside": beside, "beside_value": theirs,
        "ratio": None if theirs is None else value / theirs, "aim": aim,
    }  # fmt: skip


if __name__ == "__main__":
    print(run())
