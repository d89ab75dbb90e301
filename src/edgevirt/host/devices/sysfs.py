"""A machine's devices as its kernel shows them below /sys. Reads only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.model.hardware import GpioChip, Interface, MachineDevices, PciFunction, UsbDevice

_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_USB: Final = re.compile(r"(\d+)-([0-9.]+)")
_TERMINALS: Final = ("ttyS", "ttyUSB", "ttyACM", "ttyAMA", "ttyXRUSB", "ttymxc")
_CAN: Final = 280
"""ARPHRD_CAN."""
_GET_CHIP_INFO: Final = 0x8044_B401
_CHIP_INFO: Final = "32s32sI"

ReadChip = Callable[[Path], GpioChip]


class _Part(msgspec.Struct, frozen=True):
    """A network interface, block device or terminal, and where in the tree of devices it is."""

    name: str
    place: str

    def below(self, device: str) -> bool:
        """`device`: the name of a directory."""
        return f"/{device}/" in self.place


class Sysfs:
    """`root`: of the file system, for tests."""

    def __init__(self, root: Path = Path("/"), read_chip: ReadChip | None = None) -> None:
        self._sys = root / "sys"
        self._root = root
        self._read_chip = read_chip or read_gpio_chip

    def measure(self) -> MachineDevices:
        """Blocks. What goes away meanwhile is left out."""
        interfaces = list(self._parts("net"))
        disks = list(self._mounted())
        terminals = [part for part in self._parts("tty") if part.name.startswith(_TERMINALS)]
        usb = tuple(self._usb(interfaces, disks, terminals))
        plugged = {path for device in usb for path in device.terminals}
        serial = (f"/dev/{part.name}" for part in terminals if self._is_real(part))
        return MachineDevices(
            pci=tuple(self._pci(interfaces, disks)),
            usb=usb,
            serial=tuple(sorted(path for path in serial if path not in plugged)),
            interfaces=tuple(self._interface(part) for part in interfaces if self._counts(part)),
            gpio=tuple(self._gpio()),
            iommu=any(self._list("kernel/iommu_groups")),
        )

    def _pci(self, interfaces: list[_Part], disks: list[_Part]) -> Iterator[PciFunction]:
        for device in self._list("bus/pci/devices"):
            yield PciFunction(
                address=device.name,
                vendor=_hex(device / "vendor"),
                product=_hex(device / "device"),
                kind=_hex(device / "class"),
                driver=_link(device / "driver"),
                iommu_group=_link(device / "iommu_group"),
                interfaces=tuple(part.name for part in interfaces if part.below(device.name)),
                disks=tuple(part.name for part in disks if part.below(device.name)),
                most_functions=number(device / "sriov_totalvfs"),
                functions=virtual_functions(device),
                card=_link(device / "physfn"),
            )

    def _usb(
        self, interfaces: list[_Part], disks: list[_Part], terminals: list[_Part]
    ) -> Iterator[UsbDevice]:
        for device in self._list("bus/usb/devices"):
            place = _USB.fullmatch(device.name)
            bus, number = _text(device / "busnum"), _text(device / "devnum")
            if place is None or not bus.isdecimal() or not number.isdecimal():
                continue  # an interface, a root hub, or just unplugged
            yield UsbDevice(
                port=f"{place[1]}:{place[2]}",
                vendor=_hex(device / "idVendor"),
                product=_hex(device / "idProduct"),
                node=f"/dev/bus/usb/{int(bus):03}/{int(number):03}",
                hub=_text(device / "bDeviceClass") == "09",
                controller=_pci_above(str(device.resolve())),
                interfaces=tuple(part.name for part in interfaces if part.below(device.name)),
                terminals=tuple(
                    f"/dev/{part.name}" for part in terminals if part.below(device.name)
                ),
                disks=tuple(part.name for part in disks if part.below(device.name)),
            )

    def _interface(self, part: _Part) -> Interface:
        place = self._sys / "class/net" / part.name
        return Interface(
            name=part.name,
            mac=_text(place / "address"),
            can=_text(place / "type") == str(_CAN),
            pci=_pci_above(part.place),
        )

    def _counts(self, part: _Part) -> bool:
        """Not what the node makes itself."""
        place = self._sys / "class/net" / part.name
        return (place / "device").exists() or _text(place / "type") == str(_CAN)

    def _is_real(self, part: _Part) -> bool:
        """The kernel has terminals in store for ports that a machine may have."""
        place = self._sys / "class/tty" / part.name
        return _text(place / "type") != "0" and (place / "device").exists()

    def _gpio(self) -> Iterator[GpioChip]:
        for device in self._list("bus/gpio/devices"):
            with contextlib.suppress(OSError):
                yield self._read_chip(self._root / "dev" / device.name)

    def _mounted(self) -> Iterator[_Part]:
        """Block devices that the node has mounted."""
        numbers = set()
        with contextlib.suppress(OSError):
            for line in (self._root / "proc/self/mountinfo").read_text().splitlines():
                numbers.add(line.split(" ")[2])
        for part in self._parts("block"):
            if _text(self._sys / "class/block" / part.name / "dev") in numbers:
                yield part

    def _parts(self, kind: str) -> Iterator[_Part]:
        for entry in self._list(f"class/{kind}"):
            yield _Part(entry.name, str(entry.resolve()))

    def _list(self, directory: str) -> list[Path]:
        try:
            return sorted((self._sys / directory).iterdir())
        except OSError:
            return []


def read_gpio_chip(path: Path) -> GpioChip:
    """Asks the kernel. Raises OSError."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = bytearray(struct.calcsize(_CHIP_INFO))
        fcntl.ioctl(opened, _GET_CHIP_INFO, told)
    finally:
        os.close(opened)
    name, label, lines = struct.unpack(_CHIP_INFO, told)
    return GpioChip(name=_string(name), label=_string(label), lines=lines)


def virtual_functions(device: Path) -> tuple[str, ...]:
    """Addresses, by number: the kernel has links to them, `virtfn0` and so on."""
    found: list[str] = []
    while address := _link(device / f"virtfn{len(found)}"):
        found.append(address)
    return tuple(found)


def number(path: Path) -> int:
    """0 where there is none."""
    text = _text(path)
    return int(text) if text.isdecimal() else 0


def _string(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace")


def _pci_above(place: str) -> str:
    found = [part for part in place.split("/") if _PCI.fullmatch(part)]
    return found[-1] if found else ""


def _link(path: Path) -> str:
    try:
        return os.path.basename(path.readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _hex(path: Path) -> int:
    try:
        return int(_text(path) or "0", 16)
    except ValueError:
        return 0
