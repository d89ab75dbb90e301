"""A HardwareModel for a machine, from what its node tells of it: a draft for people. Pure.

It has every device that an app could be given. Which of them belong together, and what they are
for, people know; what the node itself needs it gives to nobody, whatever a model says.

A network card that can have virtual functions is to have some: more apps can share it then, and as
a whole nobody has it. Those that it has are not named: they follow from their card.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgevirt.fleet.objects.base.object import ObjectMeta
from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.hardware_model import (
    MOST_ADAPTERS,
    PHYSICAL,
    AdapterAddresses,
    HardwareModel,
    HardwareModelSpec,
    ModelAdapter,
)
from edgevirt.wire.convert.hardware_inventory import CARD, MOST_FUNCTIONS, read_address
from edgevirt.wire.messages import info

FUNCTIONS: Final = 4
"""So many virtual functions a card is to have, if it can have as many."""
_WORD: Final = 200
_SUBCLASSES: Final = {
    (0x01, 0x06): "SATA",
    (0x01, 0x08): "NVMe",
    (0x0C, 0x03): "USBController",
    (0x0C, 0x09): "CAN",
    (0x03, 0x00): "HDMI",
}
_NETWORK: Final = 0x02
_CLASSES: Final = {_NETWORK: "Ethernet", 0x04: "Audio", 0x0D: "WLAN"}
_NO_DEVICES: Final = frozenset({0x05, 0x06, 0x08})
"""Memory, bridges, and what is part of any system: no app has a use for them."""
_TTY: Final = "/dev/ttyS"


def propose(name: str, node: EdgeNode, told: info.HardwareInventory) -> HardwareModel:
    adapters = [*_ports(node, told), *_pci(node, told), *_usb(told), *_serial(told), *_can(told)]
    unique = {adapter.name: adapter for adapter in reversed(adapters)}
    status = node.status
    spec = HardwareModelSpec(
        manufacturer=status.manufacturer[:_WORD],
        product=status.product[:_WORD],
        adapters=tuple(reversed(unique.values()))[:MOST_ADAPTERS],
    )
    return HardwareModel(metadata=ObjectMeta(name=name), spec=spec)


def _ports(node: EdgeNode, told: info.HardwareInventory) -> Iterator[ModelAdapter]:
    """What the node is reached by."""
    places = {one.ifname: _place(one) for one in told.network_devices}
    for name in _names(node):
        functions = _functions(told, places.get(name, ""))
        yield ModelAdapter(
            name=name,
            type=PHYSICAL if functions else "Ethernet",
            group=name,
            usage="ManagementAndApps",
            addresses=AdapterAddresses(interface=name),
            virtual_functions=functions,
        )


def _names(node: EdgeNode) -> tuple[str, ...]:
    """Of the ports that it is reached by."""
    found = (address.port for address in node.status.addresses if address.port)
    return tuple(dict.fromkeys(found))


def _pci(node: EdgeNode, told: info.HardwareInventory) -> Iterator[ModelAdapter]:
    """What the machine cannot keep apart is one group, by the name of its first."""
    names = _names(node)
    split = {_place(one) for one in told.network_devices if one.ifname in names}
    groups: dict[str, str] = {}
    for device in told.pci_devices:
        pci = read_address(device.address)
        functions = _functions(told, pci) if device.class_id == _NETWORK else 0
        if device.class_id in _NO_DEVICES or CARD + pci in told.misc:
            continue
        if functions and pci in split:
            continue  # the node's port: it is there already
        kind = _CLASSES.get(device.class_id, "PCI")
        kind = _SUBCLASSES.get((device.class_id, int(device.subclass_id)), kind)
        name = f"{kind.lower()}-{pci.removeprefix('0000:')}"
        group = name
        if device.iommu_group and not functions:
            group = groups.setdefault(device.iommu_group, name)
        yield ModelAdapter(
            name=name,
            type=PHYSICAL if functions else kind,
            group=group,
            addresses=AdapterAddresses(pci=pci),
            virtual_functions=functions,
        )


def _place(device: info.NetworkDevice) -> str:
    """The PCI address of what it is on; empty: not told."""
    parent = device.parent
    return read_address(parent.pci_parent) if parent.HasField("pci_parent") else ""


def _functions(told: info.HardwareInventory, pci: str) -> int:
    """So many virtual functions it is to have."""
    most = told.misc.get(MOST_FUNCTIONS + pci, "")
    known = most.isascii() and most.isdecimal() and len(most) < 6
    return min(int(most), FUNCTIONS) if known else 0


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
