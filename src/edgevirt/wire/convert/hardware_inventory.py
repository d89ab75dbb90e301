"""What a node tells of the devices that its machine has: what a hardware model can be made of.

The wire has no field for how many virtual functions a network card can have, nor for whose one is:
both are in the inventory's `misc`, which takes any words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgevirt.model.hardware import MachineDevices, PciFunction, UsbDevice
from edgevirt.wire.messages import info

_MOST: Final = 512
"""Of each sort; a message has its bounds."""
MOST_FUNCTIONS: Final = "sriov-totalvfs/"
"""Before the address of a card: the key of how many virtual functions it can have, as the kernel
calls that.
"""
CARD: Final = "sriov-physfn/"
"""Before the address of a virtual function: the key of its card's address."""


def fill_inventory(
    message: info.HardwareInventory, devices: MachineDevices, ports: Mapping[str, str]
) -> None:
    """`ports`: the node's own, with their MAC addresses."""
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
    _fill_network(message, devices, ports)


def _fill_network(
    message: info.HardwareInventory, devices: MachineDevices, ports: Mapping[str, str]
) -> None:
    """The node's ports first."""
    functions = {function.address: function for function in devices.pci}
    present = {one.name: one for one in devices.interfaces if not one.can}
    for name in list({**ports, **present})[:_MOST]:
        interface = present.get(name)
        mac = ports.get(name) or (interface.mac if interface is not None else "")
        told = message.network_devices.add(
            ifname=name, mac_address=mac, type=info.NETWORK_DEVICE_TYPE_ETHERNET
        )
        function = functions.get(interface.pci) if interface is not None else None
        if function is None:
            continue
        _fill_address(told.parent.pci_parent, function.address)
        if function.most_functions:
            told.type = info.NETWORK_DEVICE_TYPE_ETH_PF
        elif function.card:
            told.type = info.NETWORK_DEVICE_TYPE_ETH_VF
    for function in devices.pci[:_MOST]:
        if function.most_functions:
            message.misc[MOST_FUNCTIONS + function.address] = str(function.most_functions)
        if function.card:
            message.misc[CARD + function.address] = function.card


def _fill_pci(told: info.PCIDevice, function: PciFunction) -> None:
    told.driver = function.driver
    told.vendor_id = function.vendor
    told.device_id = function.product
    told.class_id = function.kind >> 16
    told.subclass_id = function.kind >> 8 & 0xFF
    told.iommu_group = function.iommu_group
    _fill_address(told.address, function.address)


def _fill_address(told: info.PCIAddress, address: str) -> None:
    domain, bus, rest = address.split(":")
    device, _, number = rest.partition(".")
    told.domain = int(domain, 16)
    told.bus = int(bus, 16)
    told.device = int(device, 16)
    told.function = int(number, 16)


def read_address(told: info.PCIAddress) -> str:
    """As the kernel prints it."""
    return f"{told.domain:04x}:{told.bus:02x}:{told.device:02x}.{told.function:x}"


def _fill_usb(told: info.USBDevice, device: UsbDevice) -> None:
    told.vendor_id = device.vendor
    told.product_id = device.product
    bus, _, port = device.port.partition(":")
    told.bus_port.bus = int(bus)
    told.bus_port.port = port
