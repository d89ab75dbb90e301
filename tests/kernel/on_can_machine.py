"""Run on a kernel with two controllers on one CAN bus, `can0` and `can1`: gives `can0` to a virtual
machine that starts the kernel of the first argument, and prints what comes of it, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgevirt.host.devices import can_bus
from edgevirt.model.can import CanBus, CanTiming
from edgevirt.model.hardware import Addresses, DomainDevice, IoType
from tests.kernel.on_can_bus import FRAME, open_bus
from tests.worlds.guest import GuestWorld
from tests.worlds.monitored import MonitoredWorld, until

BUS = CanBus(timing=CanTiming(bitrate=500_000))
ANSWER = (0x321).to_bytes(4, "little") + bytes((4, 0, 0, 0)) + b"pong" + bytes(4)
NESTED = 240.0
"""Seconds for a guest within a guest."""


class CanWorld(GuestWorld):
    """Here is no compiler's time to spend: its kernel was made before."""

    def __init__(self, directory: Path, kernel: Path) -> None:
        MonitoredWorld.__init__(self, directory)
        self.kernel = directory / "kernel"
        shutil.copyfile(kernel, self.kernel)


def links() -> set[str]:
    said = subprocess.run(["ip", "-j", "link"], check=True, capture_output=True).stdout
    return {one["ifname"] for one in json.loads(said)}


async def talk(world: GuestWorld) -> dict[str, Any]:
    bus = Addresses(interface="can0", pci="0000:00:09.0")
    domain = world.domain(
        volumes=(),
        kernel_arguments="",
        devices=(DomainDevice(label="field", type=IoType.CAN, addresses=bus, can=BUS),),
    )
    await asyncio.to_thread(can_bus.configure, "can1", BUS)
    subprocess.run(["ip", "link", "set", "can1", "up"], check=True)
    told: dict[str, Any] = {}
    with open_bus("can1") as ours:
        ours.settimeout(NESTED)
        hypervisor = world.hypervisor()
        await hypervisor.create(domain, b"")
        await hypervisor.start(domain.app)
        told["moved"] = "can0" not in links()
        told["frame"] = await asyncio.to_thread(ours.recv, 16) == FRAME
        ours.send(ANSWER)
        await until(lambda: "heard pong" in world.console(domain.app), NESTED)
        told["heard"] = True
    await hypervisor.delete(domain.app)
    await until(lambda: "can0" in links(), NESTED)
    told["back"] = True
    return told


async def main() -> None:
    subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
    directory = Path("/run/w")
    directory.mkdir(mode=0o711)
    world = CanWorld(directory, Path(sys.argv[1]))
    try:
        told = await talk(world)
    finally:
        await world.close()
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
