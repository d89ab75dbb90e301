"""Devices without a machine. Passes the real ones' suite."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from msgspec.structs import replace

from edgevirt.host.devices.protocol import Chip, DeviceError
from edgevirt.model.hardware import MachineDevices


@dataclass
class FakeDevices:
    """`machine`: what there is; assign another one, and `plug` tells of it."""

    machine: MachineDevices = field(default_factory=MachineDevices)
    taken: set[str] = field(default_factory=set)
    chips: dict[str, tuple[str, frozenset[int]]] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _made: int = 0

    def plug(self, machine: MachineDevices) -> None:
        self.machine = machine
        self._changed.set()

    async def measure(self) -> MachineDevices:
        pci = tuple(
            replace(one, driver="vfio-pci") if one.address in self.taken else one
            for one in self.machine.pci
        )
        return replace(self.machine, pci=pci)

    async def await_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    def close(self) -> None:
        """There is nothing to close."""

    def take_pci(self, address: str) -> str:
        found = next((one for one in self.machine.pci if one.address == address), None)
        if found is None:
            raise DeviceError(f"cannot take PCI device {address}: it is not there")
        if not found.iommu_group:
            raise DeviceError(f"cannot take PCI device {address}: no I/O virtualization (IOMMU)")
        self.taken.add(address)
        return f"/dev/vfio/{found.iommu_group}"

    def give_back_pci(self, address: str) -> None:
        self.taken.discard(address)

    def make_chip(self, chip: str, lines: tuple[int, ...]) -> Chip:
        what = f"take lines {','.join(map(str, lines))} of GPIO chip {chip}"
        if not self.machine.gpio_aggregator:
            raise DeviceError(f"cannot {what}: this machine's kernel has no gpio-aggregator")
        found = next((one for one in self.machine.gpio if chip in (one.name, one.label)), None)
        taken = {line for name, held in self.chips.values() if name == chip for line in held}
        if found is None or max(lines) >= found.lines or taken.intersection(lines):
            raise DeviceError(f"cannot {what}: they are in use, or it has no such lines")
        name = f"gpio-aggregator.{self._made}"
        self._made += 1
        self.chips[name] = (chip, frozenset(lines))
        return Chip(name, f"/dev/gpiochip{len(self.machine.gpio) + self._made}")

    def remove_chip(self, name: str) -> None:
        self.chips.pop(name, None)
