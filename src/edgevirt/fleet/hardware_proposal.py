"""A HardwareModel for a machine, from what its node tells of it: a draft for people. Pure.

It has every device that an app could be given. Which of them belong together, and what they are
for, people know; what the node itself needs it gives to nobody, whatever a model says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgevirt.fleet.objects.base import ObjectMeta
from edgevirt.fleet.objects.edgenode import EdgeNode
from edgevirt.fleet.objects.hardware_model import (
    MOST_ADAPTERS,
    AdapterAddresses,
    HardwareModel,
    HardwareModelSpec,
    ModelAdapter,
)
from edgevirt.wire.messages import info

_WORD: Final = 200
_SUBCLASSES: Final = {
    (0x01, 0x06): "SATA",
    (0x01, 0x08): "NVMe",
    (0x0C, 0x03): "USBController",
    (0x0C, 0x09): "CAN",
    (0x03, 0x00): "HDMI",
}
_CLASSES: Final = {0x02: "Ethernet", 0x04: "Audio", 0x0D: "WLAN"}
_NO_DEVICES: Final = frozenset({0x05, 0x06, 0x08})
"""Memory, bridges, and what is part of any system: no app has a use for them."""
_TTY: Final = "/dev/ttyS"


def propose(name: str, node: EdgeNode, told: info.HardwareInventory) -> HardwareModel:
    adapters = [*_ports(node), *_pci(told), *_usb(told), *_serial(told), *_can(told)]
    unique = {adapter.name: adapter for adapter in reversed(adapters)}
    status = node.status
    spec = HardwareModelSpec(
        manufacturer=status.manufacturer[:_WORD],
        product=status.product[:_WORD],
        adapters=tuple(reversed(unique.values()))[:MOST_ADAPTERS],
    )
    return HardwareModel(metadata=ObjectMeta(name=name), spec=spec)


def _ports(node: EdgeNode) -> Iterator[ModelAdapter]:
    """What the node is reached by."""
    for name in dict.fromkeys(address.port for address in node.status.addresses if address.port):
        yield ModelAdapter(
            name=name,
            type="Ethernet",
            group=name,
            usage="ManagementAndApps",
            addresses=AdapterAddresses(interface=name),
        )


def _pci(told: info.HardwareInventory) -> Iterator[ModelAdapter]:
    """What the machine cannot keep apart is one group, by the name of its first."""
    groups: dict[str, str] = {}
    for device in told.pci_devices:
        if device.class_id in _NO_DEVICES:
            continue
        at = device.address
        place = f"{at.bus:02x}:{at.device:02x}.{at.function:x}"
        kind = _CLASSES.get(device.class_id, "PCI")
        kind = _SUBCLASSES.get((device.class_id, int(device.subclass_id)), kind)
        domain = f"{at.domain:04x}:" if at.domain else ""
        name = f"{kind.lower()}-{domain}{place}"
        group = groups.setdefault(device.iommu_group, name) if device.iommu_group else name
        pci = f"{at.domain:04x}:{place}"
        yield ModelAdapter(name=name, type=kind, group=group, addresses=AdapterAddresses(pci=pci))


def _usb(told: info.HardwareInventory) -> Iterator[ModelAdapter]:
    for device in told.usb_devices:
        port = f"{device.bus_port.bus}:{device.bus_port.port}"
        product = f"{device.vendor_id:04x}:{device.product_id:04x}"
        yield ModelAdapter(
            name=f"usb-{port}",
            type="USBDevice",
            group=f"usb-{port}",
            addresses=AdapterAddresses(usb_port=port, usb_product=product),
        )


def _serial(told: info.HardwareInventory) -> Iterator[ModelAdapter]:
    for port in told.serial_devices:
        number = port.devpath.removeprefix(_TTY)
        is_com = port.devpath.startswith(_TTY) and number.isdecimal()
        name = f"COM{int(number) + 1}" if is_com else port.devpath.rpartition("/")[2]
        yield ModelAdapter(
            name=name,
            type="Serial",
            group=name.lower(),
            addresses=AdapterAddresses(serial=port.devpath),
        )


def _can(told: info.HardwareInventory) -> Iterator[ModelAdapter]:
    for bus in told.can_devices:
        yield ModelAdapter(
            name=bus.ifname,
            type="CAN",
            group=bus.ifname,
            addresses=AdapterAddresses(interface=bus.ifname),
        )
