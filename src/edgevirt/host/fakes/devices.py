"""Devices without a machine. Passes the real ones' suite."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from msgspec.structs import replace

from edgevirt.host.devices.protocol import DeviceError
from edgevirt.model.hardware import MachineDevices, PciFunction
from edgevirt.model.sriov import VirtualFunction


@dataclass
class FakeDevices:
    """`machine`: what there is; assign another one, and `plug` tells of it."""

    machine: MachineDevices = field(default_factory=MachineDevices)
    taken: set[str] = field(default_factory=set)
    driven: dict[str, str] = field(default_factory=dict)
    """Interfaces of virtual functions that are driven; assign `interfaces` what they will be."""
    interfaces: dict[str, str] = field(default_factory=dict)
    functions: dict[tuple[str, int], VirtualFunction] = field(default_factory=dict)
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
        found = self._find(address)
        if found is None:
            raise DeviceError(f"cannot take PCI device {address}: it is not there")
        if not found.iommu_group:
            raise DeviceError(f"cannot take PCI device {address}: no I/O virtualization (IOMMU)")
        self.taken.add(address)
        return f"/dev/vfio/{found.iommu_group}"

    def give_back_pci(self, address: str) -> None:
        self.taken.discard(address)

    def drive_function(self, address: str) -> str:
        what = f"cannot have virtual function {address} driven"
        found = self._find(address)
        if found is None:
            raise DeviceError(f"{what}: it is not there")
        if address in self.taken or found.driver == "vfio-pci":
            raise DeviceError(f"{what}: it is in use")
        if address not in self.interfaces:
            raise DeviceError(f"{what}: this kernel has no driver for it")
        self.driven[address] = self.interfaces[address]
        return self.driven[address]

    def free_function(self, address: str) -> None:
        self.driven.pop(address, None)

    def split_pci(self, address: str, count: int) -> None:
        found = self._find(address)
        what = f"cannot make {count} virtual functions of PCI device {address}"
        if found is None:
            raise DeviceError(f"{what}: it is not there")
        most = found.most_functions
        if count > most:
            raise DeviceError(f"{what}: it has {f'{most} at most' if most else 'none'}")
        if count == len(found.functions):
            return
        for taken in self.taken.intersection(found.functions):
            raise DeviceError(f"{what}: {taken} is in use")
        made = tuple(f"{address[:-4]}{16 + index:02x}.0" for index in range(count))
        others = [one for one in self.machine.pci if one.address not in (address, *found.functions)]
        virtual = [
            PciFunction(address=one, card=address, iommu_group=str(100 + index))
            for index, one in enumerate(made)
        ]
        pci = sorted((*others, replace(found, functions=made), *virtual), key=lambda f: f.address)
        self.plug(replace(self.machine, pci=tuple(pci)))

    def read_function(self, card: str, index: int) -> VirtualFunction:
        self._check_card(card)
        unset = VirtualFunction(card=card, index=index, mac="00:00:00:00:00:00")
        return self.functions.get((card, index), unset)

    def set_function(self, function: VirtualFunction) -> None:
        self._check_card(function.card)
        before = self.read_function(function.card, function.index)
        mac = function.mac or before.mac
        self.functions[function.card, function.index] = replace(function, mac=mac)

    def _check_card(self, card: str) -> None:
        found = self._find(card)
        if found is None or not found.interfaces:
            raise DeviceError(f"cannot set virtual functions of PCI device {card}: no interface")

    def _find(self, address: str) -> PciFunction | None:
        return next((one for one in self.machine.pci if one.address == address), None)
