"""Devices without a machine. Passes the real ones' suite."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from msgspec.structs import replace

from edgevirt.host.devices.protocol import DeviceError
from edgevirt.model.hardware import MachineDevices


@dataclass
class FakeDevices:
    """`machine`: what there is; assign another one, and `plug` tells of it."""

    machine: MachineDevices = field(default_factory=MachineDevices)
    taken: set[str] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

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
