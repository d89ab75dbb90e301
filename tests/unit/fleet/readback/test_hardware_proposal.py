"""What a node tells of its hardware as a model to begin with: one that the fleet takes."""

from __future__ import annotations

from typing import Any

import msgspec

from edgevirt.fleet.objects.node.edgenode import EdgeNodeStatus, NodeAddress
from edgevirt.fleet.objects.node.hardware_model import MOST_ADAPTERS, ModelAdapter, validate
from edgevirt.fleet.readback.hardware_proposal import propose
from edgevirt.model.hardware import Interface, MachineDevices, PciFunction
from edgevirt.wire.convert.hardware_inventory import fill_inventory
from edgevirt.wire.messages import info
from tests.unit.fleet.objects_world import NODE

BOX = msgspec.structs.replace(
    NODE,
    status=EdgeNodeStatus(
        manufacturer="ACME",
        product="Box 3",
        addresses=(NodeAddress(port="eth0", address="192.0.2.7"), NodeAddress(port="eth0")),
    ),
)


def told() -> info.HardwareInventory:
    message = info.HardwareInventory()
    for bus, kind, group in (
        (0, (0x06, 0), "1"),  # a bridge
        (2, (0x02, 0), "7"),
        (3, (0x0C, 3), "7"),
        (4, (0x01, 8), ""),
        (5, (0x11, 0x80), "9"),
    ):
        device = message.pci_devices.add(class_id=kind[0], subclass_id=kind[1], iommu_group=group)
        device.address.bus, device.address.function = bus, 1
    usb = message.usb_devices.add(vendor_id=0x046D, product_id=0xC52B)
    usb.bus_port.bus, usb.bus_port.port = 1, "2.4"
    for path in ("/dev/ttyS1", "/dev/ttyUSB0"):
        message.serial_devices.add(devpath=path)
    message.can_devices.add(ifname="can0")
    return message


def by_name(message: info.HardwareInventory) -> dict[str, ModelAdapter]:
    return {adapter.name: adapter for adapter in propose("box", BOX, message).spec.adapters}


def test_each_device_that_an_app_could_have_is_in_it() -> None:
    found = by_name(told())
    assert {name: adapter.type for name, adapter in found.items()} == {
        "eth0": "Ethernet",
        "ethernet-02:00.1": "Ethernet",
        "usbcontroller-03:00.1": "USBController",
        "nvme-04:00.1": "NVMe",
        "pci-05:00.1": "PCI",
        "usb-1:2.4": "USBDevice",
        "COM2": "Serial",
        "ttyUSB0": "Serial",
        "can0": "CAN",
    }
    assert found["usb-1:2.4"].addresses.usb_product == "046d:c52b"
    assert found["ethernet-02:00.1"].addresses.pci == "0000:02:00.1"


def test_what_cannot_be_kept_apart_is_one_group() -> None:
    found = by_name(told())
    assert found["usbcontroller-03:00.1"].group == "ethernet-02:00.1"
    assert found["nvme-04:00.1"].group == "nvme-04:00.1"


def test_what_the_node_is_reached_by_is_its_own() -> None:
    assert by_name(told())["eth0"].usage == "ManagementAndApps"


def told_of_cards() -> info.HardwareInventory:
    """As a node tells it: two ports of one card, of which the first is the node's own; a virtual
    function of the second; a disk that has functions, too.
    """
    card: dict[str, Any] = {"kind": 0x020000, "iommu_group": "7", "most_functions": 7}
    devices = MachineDevices(
        pci=(
            PciFunction(address="0000:02:00.0", **card),
            PciFunction(address="0000:02:00.1", functions=("0000:02:10.1",), **card),
            PciFunction(address="0000:02:10.1", kind=0x020000, card="0000:02:00.1"),
            PciFunction(address="0000:03:00.0", kind=0x020000, most_functions=2),
            PciFunction(address="0000:04:00.0", kind=0x010802, most_functions=16),
        ),
        interfaces=(
            Interface(name="eth0", mac="02:00:00:00:00:01", pci="0000:02:00.0"),
            Interface(name="eth1", pci="0000:02:00.1"),
        ),
    )
    message = info.HardwareInventory()
    fill_inventory(message, devices, {"eth0": "02:00:00:00:00:01"})
    return message


def test_a_card_that_can_have_virtual_functions_is_to_have_some() -> None:
    found = by_name(told_of_cards())
    assert {name: (one.type, one.virtual_functions) for name, one in found.items()} == {
        "eth0": ("EthernetPF", 4),
        "ethernet-02:00.1": ("EthernetPF", 4),
        "ethernet-03:00.0": ("EthernetPF", 2),
        "nvme-04:00.0": ("NVMe", 0),
    }
    assert found["eth0"].usage == "ManagementAndApps"
    assert found["ethernet-02:00.1"].functions[0] == "ethernet-02:00.1vf0"
    assert list(validate(propose("box", BOX, told_of_cards()))) == []


def test_what_only_we_tell_of_cards_may_be_missing_or_nonsense() -> None:
    message = told_of_cards()
    message.misc["sriov-totalvfs/0000:03:00.0"] = "many"
    assert by_name(message)["ethernet-03:00.0"].type == "Ethernet"
    message.misc.clear()
    found = by_name(message)
    assert found["eth0"].type == "Ethernet"
    assert found["ethernet-02:10.1"].type == "Ethernet"


def test_the_fleet_takes_it_as_it_is() -> None:
    assert list(validate(propose("box", BOX, told()))) == []


def test_a_machine_of_more_devices_than_a_model_may_have_is_cut() -> None:
    message = told()
    for bus in range(1, 200):
        for port in ("1", "2"):
            usb = message.usb_devices.add()
            usb.bus_port.bus, usb.bus_port.port = bus, port
    made = propose("box", BOX, message)
    assert len(made.spec.adapters) == MOST_ADAPTERS
    assert list(validate(made)) == []
