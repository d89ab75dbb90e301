"""What a machine has, read from a tree that looks like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.host.devices.machine import MachineDevicesAdapter
from edgevirt.host.devices.protocol import DeviceError
from edgevirt.host.devices.sysfs import Sysfs
from edgevirt.model.hardware import GpioChip, Interface, MachineDevices, PciFunction, UsbDevice

XHCI, NIC = "0000:00:14.0", "0000:01:00.0"


class Tree:
    """A `/sys` that is built device by device, with the links that the kernel makes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sys = root / "sys"

    def write(self, path: Path, **files: str) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name).write_text(f"{text}\n")
        return path

    def link(self, path: str, target: Path) -> None:
        place = self.sys / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def pci(self, address: str, kind: str, driver: str = "", group: str = "") -> Path:
        files = {"vendor": "0x8086", "device": "0x1533", "class": kind}
        place = self.write(self.sys / "devices/pci0000:00" / address, **files)
        self.link(f"bus/pci/devices/{address}", place)
        if driver:
            (place / "driver").symlink_to(self.write(self.sys / "bus/pci/drivers" / driver))
        if group:
            (place / "iommu_group").symlink_to(self.write(self.sys / "kernel/iommu_groups" / group))
        return place

    def usb(self, controller: Path, name: str, number: int, **more: str) -> Path:
        place = self.write(
            controller / "usb1" / name,
            busnum="1",
            devnum=str(number),
            **{"idVendor": "046d", "idProduct": "c52b", "bDeviceClass": "00", **more},
        )
        self.link(f"bus/usb/devices/{name}", place)
        return place

    def part(self, kind: str, name: str, device: Path | None, **files: str) -> Path:
        base = device or self.sys / "devices/virtual"
        place = self.write(base / kind / name, **files)
        if device is not None:
            (place / "device").symlink_to(device)
        self.link(f"class/{kind}/{name}", place)
        return place


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def measure(tree: Tree, chip: GpioChip | None = None) -> MachineDevices:
    def read(path: Path) -> GpioChip:
        if chip is None or path.name != chip.name:
            raise FileNotFoundError(path)
        return chip

    return Sysfs(tree.root, read).measure()


def test_a_pci_function_with_its_driver_its_iommu_group_and_its_interface(tree: Tree) -> None:
    place = tree.pci(NIC, "0x020000", "e1000e", "7")
    tree.part("net", "eth1", place, address="52:54:00:00:00:01", type="1")
    tree.part("net", "bn1", None, address="52:54:00:00:00:02", type="1")
    found = measure(tree)
    assert found.pci == (
        PciFunction(
            address=NIC, vendor=0x8086, product=0x1533, kind=0x020000, driver="e1000e",
            iommu_group="7", interfaces=("eth1",),
        ),
    )  # fmt: skip
    assert found.interfaces == (Interface(name="eth1", mac="52:54:00:00:00:01", pci=NIC),)
    assert found.iommu


def test_a_usb_device_with_what_it_brings_behind_a_hub(tree: Tree) -> None:
    controller = tree.pci(XHCI, "0x0c0330")
    tree.usb(controller, "1-2", 3, bDeviceClass="09")
    stick = tree.usb(controller, "1-2.4", 5)
    tree.write(tree.sys / "bus/usb/devices/1-2.4:1.0")
    tree.part("tty", "ttyUSB0", stick / "1-2.4:1.0")
    hub, found = measure(tree).usb
    assert (hub.port, hub.hub) == ("1:2", True)
    assert found == UsbDevice(
        port="1:2.4", vendor=0x046D, product=0xC52B, node="/dev/bus/usb/001/005",
        controller=XHCI, terminals=("/dev/ttyUSB0",),
    )  # fmt: skip
    assert measure(tree).serial == ()


def test_only_serial_ports_that_are_there_count(tree: Tree) -> None:
    uart = tree.write(tree.sys / "devices/pnp0/00:01")
    tree.part("tty", "ttyS0", uart, type="4")
    tree.part("tty", "ttyS1", uart, type="0")
    tree.part("tty", "tty1", None)
    assert measure(tree).serial == ("/dev/ttyS0",)


def test_a_disk_counts_when_the_node_has_it_mounted(tree: Tree) -> None:
    controller = tree.pci(XHCI, "0x0c0330")
    stick = tree.usb(controller, "1-2", 3)
    for name, number in (("sda", "8:0"), ("sda1", "8:1")):
        tree.part("block", name, stick / "host0", dev=number)
    assert measure(tree).pci[0].disks == ()
    tree.write(tree.root / "proc/self", mountinfo="36 25 8:1 / /persist rw - ext4 /dev/sda1 rw")
    found = measure(tree)
    assert (found.pci[0].disks, found.usb[0].disks) == (("sda1",), ("sda1",))


def test_can_buses_and_gpio_chips(tree: Tree) -> None:
    tree.part("net", "can0", None, type="280")
    tree.write(tree.sys / "bus/gpio/devices/gpiochip0")
    tree.write(tree.sys / "bus/gpio/devices/gpiochip1")
    chip = GpioChip(name="gpiochip0", label="pl061", lines=8)
    found = measure(tree, chip)
    assert found.interfaces == (Interface(name="can0", can=True),)
    assert found.gpio == (chip,)


def test_a_machine_without_anything_is_no_error(tmp_path: Path) -> None:
    assert Sysfs(tmp_path).measure() == MachineDevices()


def test_a_device_that_cannot_be_taken_is_told_in_words(tree: Tree) -> None:
    devices = MachineDevicesAdapter(tree.root)
    with pytest.raises(DeviceError, match=r"cannot take PCI device .*: it is not there"):
        devices.take_pci(NIC)
    tree.pci(NIC, "0x020000", "e1000e")
    with pytest.raises(DeviceError, match="no I/O virtualization"):
        devices.take_pci(NIC)
    tree.pci(XHCI, "0x0c0330", "xhci_hcd", "3")
    with pytest.raises(DeviceError, match="no vfio-pci driver"):
        devices.take_pci(XHCI)
    devices.give_back_pci("0000:09:00.0")


def test_what_is_taken_is_written_where_the_kernel_looks(tree: Tree) -> None:
    """Of the kernel's side only the links are here; that it obeys is seen on a real one."""
    place = tree.pci(NIC, "0x020000", "vfio-pci", "7")
    assert MachineDevicesAdapter(tree.root).take_pci(NIC) == "/dev/vfio/7"
    (place / "driver_override").write_text("vfio-pci\n")
    MachineDevicesAdapter(tree.root).give_back_pci(NIC)
    assert (place / "driver_override").read_text() == "\n"
    assert (place / "driver/unbind").read_text() == NIC
    assert (tree.sys / "bus/pci/drivers_probe").read_text() == NIC
