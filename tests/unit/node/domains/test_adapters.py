"""The hardware model against the machine: what can be given to apps, and why not, in words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from edgevirt.model.can import CanBus, CanTiming
from edgevirt.model.hardware import (
    AdapterGroup,
    Addresses,
    GpioChip,
    Interface,
    IoType,
    IoUsage,
    MachineDevices,
    PciFunction,
    PhysicalIo,
    UsbDevice,
    read_gpio,
)
from edgevirt.node.domains.adapters import plan_groups, remembered

BRIDGE = PciFunction(address="0000:00:1c.0", kind=0x060400, iommu_group="3")
NIC = PciFunction(
    address="0000:01:00.0", kind=0x020000, iommu_group="3", driver="e1000e", interfaces=("eth1",)
)
SECOND = PciFunction(address="0000:01:00.1", kind=0x020000, iommu_group="3", interfaces=("eth2",))
UPLINK = PciFunction(address="0000:00:19.0", kind=0x020000, iommu_group="1", interfaces=("eth0",))
XHCI = PciFunction(address="0000:00:14.0", kind=0x0C0330, iommu_group="2", disks=("sda2",))
STICK = UsbDevice(
    port="1:2", vendor=0x046D, product=0xC52B, node="/dev/bus/usb/001/004", controller=XHCI.address
)
MACHINE = MachineDevices(
    pci=(UPLINK, XHCI, BRIDGE, NIC, SECOND),
    usb=(STICK, UsbDevice(port="1:3", vendor=1, product=2, node="/x", hub=True)),
    serial=("/dev/ttyS0", "/dev/ttyS1"),
    interfaces=(
        Interface(name="eth0", mac="aa", pci=UPLINK.address),
        Interface(name="eth1", mac="bb", pci=NIC.address),
        Interface(name="eth2", mac="cc", pci=SECOND.address),
        Interface(name="can0", can=True),
    ),
    gpio=(GpioChip(name="gpiochip0", label="gpio-sim.0", lines=8),),
    iommu=True,
)
PORT = PhysicalIo(
    label="eth0", type=IoType.ETHERNET, group="g0", addresses=Addresses(interface="eth0"),
    port="eth0",
)  # fmt: skip


def io(label: str = "dev", type: int = IoType.OTHER, group: str = "g", **more: Any) -> PhysicalIo:
    fields = {name: more.pop(name) for name in Addresses.__struct_fields__ if name in more}
    return PhysicalIo(label=label, type=type, group=group, addresses=Addresses(**fields), **more)


def only(*model: PhysicalIo, machine: MachineDevices = MACHINE, used: Any = ()) -> AdapterGroup:
    """The one group besides the port's."""
    found = [g for g in plan_groups((PORT, *model), machine, used) if g.name != "g0"]
    assert len(found) == 1
    return found[0]


def test_a_serial_port_can_be_given_to_anyone() -> None:
    group = only(io("COM2", IoType.COM, serial="/dev/ttyS1"))
    assert (group.why_not, group.why_no_machine, group.why_no_container) == ("", "", "")
    assert (group.members[0].absent, group.node) == ("", False)


def test_the_port_of_the_node_itself_is_never_given_away() -> None:
    found = {group.name: group for group in plan_groups((PORT,), MACHINE)}
    assert found["g0"].node
    assert found["g0"].why_not == "it is (part of) a port of the node itself, eth0"


@pytest.mark.parametrize(
    "device",
    [
        io("other", IoType.ETHERNET, interface="eth0"),
        io("other", IoType.OTHER, pci=UPLINK.address),
        io("other", IoType.ETHERNET, "g0", interface="eth1"),
    ],
    ids=["by its interface", "by its PCI address", "in one group with it"],
)
def test_a_model_cannot_give_the_management_port_away_under_another_name(
    device: PhysicalIo,
) -> None:
    groups = {group.name: group for group in plan_groups((PORT, device), MACHINE)}
    assert groups[device.group].node
    assert "a port of the node itself, eth0" in groups[device.group].why_not


def test_an_interface_that_the_node_fell_back_to_is_its_own() -> None:
    group = only(io("eth1", IoType.ETHERNET, interface="eth1"), used=("eth1",))
    assert group.why_not == "it is (part of) a port of the node itself, eth1"


def test_what_carries_the_nodes_disk_is_never_given_away() -> None:
    group = only(io("USB", IoType.USB_CONTROLLER, pci=XHCI.address))
    assert group.why_not == "a disk of the node itself is on it, sda2"
    assert group.node


def test_a_device_in_no_group_is_never_assignable() -> None:
    group = only(io("COM2", IoType.COM, group="", serial="/dev/ttyS1"))
    assert (group.name, group.why_not) == ("/COM2", "it is in no group of devices")


def test_functions_that_cannot_be_kept_apart_must_be_in_one_group() -> None:
    alone = only(io("eth1", IoType.ETHERNET, pci=NIC.address))
    assert alone.why_no_machine == (
        f"it cannot be kept apart from {SECOND.address}, which is not in its group"
    )
    both = only(
        io("eth1", IoType.ETHERNET, pci=NIC.address),
        io("eth2", IoType.ETHERNET, pci=SECOND.address),
    )
    assert both.why_no_machine == ""
    assert [member.mac for member in both.members] == ["bb", "cc"]


def test_a_machine_without_iommu_gives_no_pci_function_to_a_virtual_machine() -> None:
    bare = replace(MACHINE, iommu=False, pci=(replace(NIC, iommu_group=""),))
    group = only(io("eth1", IoType.ETHERNET, pci=NIC.address), machine=bare)
    assert group.why_no_machine == "no I/O virtualization (IOMMU) on this machine"
    assert group.why_no_container == ""


def test_gpio_lines_are_for_containers() -> None:
    pins = only(io("pins", gpio="gpio-sim.0:4,7"))
    assert pins.why_no_machine == "a virtual machine cannot have GPIO lines"
    assert pins.why_no_container == ""


def can(label: str = "can", type: int = IoType.CAN, *words: tuple[str, str]) -> PhysicalIo:
    return io(label, type, label, interface="can0", settings=words)


def test_a_bus_without_a_bit_rate_is_given_to_no_app() -> None:
    """Nobody there could set it."""
    group = only(can())
    assert group.why_no_container == group.why_no_machine == "the model has no bit rate for can"
    group = only(can("can", IoType.CAN, ("bitrate", "125000")))
    assert group.why_no_container == group.why_no_machine == ""
    assert group.members[0].can == CanBus(timing=CanTiming(bitrate=125_000))


def test_a_bus_needs_no_iommu_and_none_of_its_hardware_goes_to_a_machine() -> None:
    card = replace(NIC, iommu_group="", interfaces=("can0",))
    interfaces = (Interface(name="can0", can=True, pci=card.address),)
    bare = replace(MACHINE, iommu=False, pci=(card,), interfaces=interfaces)
    group = only(can("can", IoType.CAN, ("bitrate", "125000")), machine=bare)
    assert group.why_no_machine == ""
    assert only(can(type=IoType.VCAN), machine=bare).why_no_machine == ""


def test_a_logical_bus_is_set_as_the_bus_that_it_is() -> None:
    bus, logical = can("can", IoType.CAN, ("bitrate", "125000")), can("can.1", IoType.LCAN)
    groups = {group.name: group for group in plan_groups((bus, logical), MACHINE)}
    assert groups["can.1"].members[0].can == groups["can"].members[0].can is not None
    assert only(logical).why_no_container == "the model has no bit rate for can.1"


def test_a_bus_that_is_set_to_what_is_none_is_given_to_nobody() -> None:
    group = only(can("can", IoType.CAN, ("bitrate", "fast")))
    assert "sets bitrate of its CAN bus to 'fast'" in group.why_not


@pytest.mark.parametrize(
    ("device", "why"),
    [
        (io(pci="0000:09:00.0"), "no PCI device is at 0000:09:00.0"),
        (io(usb_port="1:7"), "no USB device at 1:7 is plugged in"),
        (
            io(usb_port="1:2", usb_product="1234:5678"),
            "no USB device at 1:2 and of product 1234:5678 is plugged in",
        ),
        (io(type=IoType.COM, serial="/dev/ttyS9"), "no serial port is /dev/ttyS9"),
        (io(type=IoType.CAN, interface="can7"), "no network interface is named can7"),
        (io(gpio="gpio-sim.9:1"), "no GPIO chip is named gpio-sim.9"),
        (io(gpio="gpiochip0:8"), "GPIO chip gpiochip0 has 8 lines, and none of number 8"),
    ],
)
def test_what_is_not_there_is_said(device: PhysicalIo, why: str) -> None:
    assert only(device).members[0].absent == why


def test_a_port_of_the_node_in_another_network_than_ours_is_not_said_to_be_missing() -> None:
    (group,) = plan_groups((PORT,), replace(MACHINE, interfaces=(), pci=()))
    assert group.members[0].absent == ""


@pytest.mark.parametrize(
    ("device", "why"),
    [
        (io(), "the model has no address of dev"),
        (io(pci="../../x"), "'../../x' is no PCI address"),
        (io(gpio="gpio-sim.0 1"), "'gpio-sim.0 1' is no GPIO chip with lines of it"),
        (io(usb_port="1:3"), "the USB device at 1:3 is a hub"),
        (io(serial="/dev/ttyS1", usage=IoUsage.DISABLED), "the model has it disabled"),
        (
            io(serial="/dev/ttyS1", usage=IoUsage.MANAGEMENT_ONLY),
            "the model keeps it for the node itself",
        ),
    ],
)
def test_a_flawed_model_is_refused_in_words(device: PhysicalIo, why: str) -> None:
    assert why in only(device).why_not


def test_two_devices_of_one_name_are_refused() -> None:
    group = only(io(serial="/dev/ttyS0"), io(serial="/dev/ttyS1"))
    assert group.why_not == "the model has two devices named dev"


def test_an_interface_that_an_app_has_stays_known() -> None:
    before = only(io("eth1", IoType.ETHERNET, interface="eth1"))
    assert before.members[0].addresses.pci == NIC.address
    away = replace(MACHINE, interfaces=())
    after = remembered(only(io("eth1", IoType.ETHERNET, interface="eth1"), machine=away), before)
    assert (after.members[0].addresses.pci, after.members[0].mac) == (NIC.address, "bb")


@pytest.mark.parametrize(
    "text",
    ["", "chip", "chip:", "chip:x", ":1", "a b:1", "chip:1,1", "chip:5-3", "chip:0-999999999999"],
)
def test_lines_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GPIO"):
        read_gpio(text)


def test_lines_are_read_in_the_models_order() -> None:
    assert read_gpio("gpio-sim.0:7,0-2") == ("gpio-sim.0", (7, 0, 1, 2))
