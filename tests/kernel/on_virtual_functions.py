"""Run on a kernel with a device that can have virtual functions (SR-IOV), and an IOMMU.

Makes them as `host.devices` does, takes one, and prints what comes of it, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from edgevirt.host.devices.machine import MachineDevicesAdapter
from edgevirt.host.devices.protocol import DeviceError
from edgevirt.model.hardware import PciFunction


def measure(devices: MachineDevicesAdapter, address: str) -> tuple[PciFunction, list[PciFunction]]:
    """The device, and its virtual functions."""
    found = {one.address: one for one in asyncio.run(devices.measure()).pci}
    return found[address], [found[one] for one in found[address].functions]


def refusal(devices: MachineDevicesAdapter, address: str, count: int) -> str:
    try:
        devices.split_pci(address, count)
    except DeviceError as error:
        return str(error)
    return ""


def drive(devices: MachineDevicesAdapter, address: str) -> str:
    try:
        return devices.drive_function(address)
    except DeviceError as error:
        return str(error)


def main() -> None:
    address, devices = sys.argv[1], MachineDevicesAdapter()
    told: dict[str, Any] = {"most": measure(devices, address)[0].most_functions}
    told["too many"] = refusal(devices, address, told["most"] + 1)
    devices.split_pci(address, 2)
    _, made = measure(devices, address)
    told["made"] = [(one.address, one.card, one.driver) for one in made]
    told["file"] = devices.take_pci(made[0].address)
    told["again"] = refusal(devices, address, 2)
    told["in use"] = refusal(devices, address, 3)
    told["driver"] = measure(devices, address)[1][0].driver
    devices.give_back_pci(made[0].address)
    told["driven"] = drive(devices, made[1].address)
    told["other"] = measure(devices, address)[1][0].driver
    devices.free_function(made[1].address)
    told["freed"] = [one.driver for one in measure(devices, address)[1]]
    devices.split_pci(address, 3)
    told["more"] = len(measure(devices, address)[1])
    devices.split_pci(address, 0)
    told["none"] = len(measure(devices, address)[1])
    print(json.dumps(told))


if __name__ == "__main__":
    main()
