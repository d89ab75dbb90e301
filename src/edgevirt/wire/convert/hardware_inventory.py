"""What a node tells of the devices that its machine has: what a hardware model can be made of."""

from __future__ import annotations

from typing import Final

from edgevirt.model.hardware import MachineDevices, PciFunction, UsbDevice
from edgevirt.wire.messages import info

_MOST: Final = 512
"""Of each sort; a message has its bounds."""


def fill_inventory(message: info.HardwareInventory, devices: MachineDevices) -> None:
    for function in devices.pci[:_MOST]:
        _fill_pci(message.pci_devices.add(), function)
    for device in devices.usb[:_MOST]:
        if not device.hub:
            _fill_usb(message.usb_devices.add(), device)
    for path in devices.serial[:_MOST]:
        message.serial_devices.add(devpath=path)
    for interface in devices.interfaces[:_MOST]:
        if interface.can:
            message.can_devices.add(ifname=interface.name)


def _fill_pci(told: info.PCIDevice, function: PciFunction) -> None:
    told.driver = function.driver
    told.vendor_id = function.vendor
    told.device_id = function.product
    told.class_id = function.kind >> 16
    told.subclass_id = function.kind >> 8 & 0xFF
    told.iommu_group = function.iommu_group
    domain, bus, rest = function.address.split(":")
    device, _, number = rest.partition(".")
    told.address.domain = int(domain, 16)
    told.address.bus = int(bus, 16)
    told.address.device = int(device, 16)
    told.address.function = int(number, 16)


def _fill_usb(told: info.USBDevice, device: UsbDevice) -> None:
    told.vendor_id = device.vendor
    told.product_id = device.product
    bus, _, port = device.port.partition(":")
    told.bus_port.bus = int(bus)
    told.bus_port.port = port
