"""How long a container in a virtual machine takes from nothing to its first line.

From `create` by the real adapter, with the image packed before, to the line in the console's file.
Beside it, in turns in the same run: the same QEMU, kernel and initrd, started by hand without any
disk, powered off by its first process at once. The network is in neither. And what such a machine
takes of the node's memory at most, beside what the node reckons with: the guest's own and EVE's
published formula. Needs root, QEMU and conmon.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from typing import Any

from edgevirt.host.kvm.acceleration import PROGRAM, accelerator, processor
from edgevirt.host.kvm.guest import ARGUMENTS, GuestFiles
from edgevirt.model.app import Resources, overhead_kib
from tests.worlds.contained import ContainedWorld, contained_world, guest_files

ROUNDS = 3
MEMORY_KIB = 131_072
AIM_RATIO = 2.0
_MIB = 1 << 20


async def _ours(world: ContainedWorld) -> tuple[float, int]:
    """Seconds to the first line, and bytes of memory at most."""
    domain = world.domain("run", memory_kib=MEMORY_KIB)
    hypervisor = world.hypervisor()
    began = time.perf_counter()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await world.ready(domain.app)
    took = time.perf_counter() - began
    metric = await hypervisor.metrics(domain.app)
    await hypervisor.delete(domain.app)
    return took, metric.memory_peak if metric is not None else 0


def _bare() -> float:
    """Seconds."""
    files = GuestFiles.below(guest_files())
    command = [
        *(PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35,usb=off", "-accel", accelerator(), "-m", f"size={MEMORY_KIB}k"),
        *("-cpu", processor(accelerator())),
        *("-kernel", str(files.kernel), "-initrd", str(files.initrd)),
        *("-append", f"{ARGUMENTS} rdinit=/bin/poweroff -- -f"),
    ]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began


async def _measure(world: ContainedWorld) -> tuple[list[float], list[float], list[int]]:
    ours, bare, memory = [], [], []
    try:
        await world.pack()
        for _ in range(ROUNDS):
            took, peak = await _ours(world)
            ours.append(took)
            memory.append(peak)
            bare.append(await asyncio.to_thread(_bare))
    finally:
        await world.close()
    return ours, bare, memory


def run() -> list[dict[str, Any]]:
    with contained_world() as world:
        ours, bare, memory = asyncio.run(_measure(world))
    value, floor = statistics.median(ours), statistics.median(bare)
    reckoned = (MEMORY_KIB + overhead_kib(Resources(memory_kib=MEMORY_KIB))) * 1024
    return [
        {
            "name": "container in a machine, to its first line",
            "value": value,
            "unit": "s",
            "beside": "QEMU, same kernel and initrd, off at once",
            "beside_value": floor,
            "ratio": value / floor,
            "aim": f"≤ {AIM_RATIO:.0f} ×",
        },
        {
            "name": "memory of it, 128 MiB in the guest",
            "value": max(memory) / _MIB,
            "unit": "MiB",
            "beside": "with EVE's formula",
            "beside_value": reckoned / _MIB,
            "ratio": max(memory) / reckoned,
            "aim": "≤ 1",
        },
    ]


if __name__ == "__main__":
    print(run())
