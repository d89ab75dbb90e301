"""The devices of this machine: measured below /sys, and handed over by writing to it.

PCI: https://docs.kernel.org/driver-api/vfio.html
SR-IOV: https://docs.kernel.org/PCI/pci-iov-howto.html
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Final

from edgevirt.host.devices import virtual_functions
from edgevirt.host.devices.protocol import DeviceError
from edgevirt.host.devices.sysfs import ReadChip, Sysfs, number
from edgevirt.model.hardware import MachineDevices
from edgevirt.model.sriov import VirtualFunction

_UEVENTS: Final = 15
"""NETLINK_KOBJECT_UEVENT."""
_FROM_KERNEL: Final = 1
_VFIO: Final = "vfio-pci"
_INTERFACE: Final = 10.0
"""Seconds until a driver has made a network interface of what it drives."""
_LOOK: Final = 0.1


class MachineDevicesAdapter:
    """`root`: of the file system, for tests."""

    def __init__(self, root: Path = Path("/"), read_chip: ReadChip | None = None) -> None:
        self._root = root
        self._pci = root / "sys/bus/pci"
        self._sysfs = Sysfs(root, read_chip)
        self._events: socket.socket | None = None

    async def measure(self) -> MachineDevices:
        try:
            return await asyncio.to_thread(self._sysfs.measure)
        except OSError as error:
            raise DeviceError(f"cannot look at the machine's devices: {error}") from error

    async def await_change(self, seconds: float) -> None:
        if self._events is None:
            self._events = _listen()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self._events is None:
                    await asyncio.Event().wait()
                else:
                    await _heard(loop, self._events)

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    # -- PCI functions --

    def take_pci(self, address: str) -> str:
        device = self._pci / "devices" / address
        if not device.is_dir():
            raise DeviceError(f"cannot take PCI device {address}: it is not there")
        group = self._name_of(device / "iommu_group")
        if not group:
            raise DeviceError(f"cannot take PCI device {address}: no I/O virtualization (IOMMU)")
        if self._name_of(device / "driver") != _VFIO:
            if not (self._pci / "drivers" / _VFIO).is_dir():
                raise DeviceError(
                    f"cannot take PCI device {address}: this kernel has no {_VFIO} driver"
                )
            self._write(device / "driver_override", _VFIO, f"take PCI device {address}")
            self._change_driver(device, address)
            if self._name_of(device / "driver") != _VFIO:
                raise DeviceError(f"cannot take PCI device {address}: {_VFIO} refused it")
        return f"/dev/vfio/{group}"

    def give_back_pci(self, address: str) -> None:
        device = self._pci / "devices" / address
        if not device.is_dir():
            return
        if self._name_of(device / "driver") == _VFIO or self._override(device) == _VFIO:
            self._write(device / "driver_override", "\n", f"give PCI device {address} back")
            self._change_driver(device, address)

    # -- virtual functions --

    def split_pci(self, address: str, count: int) -> None:
        device = self._pci / "devices" / address
        what = f"make {count} virtual functions of PCI device {address}"
        if not device.is_dir():
            raise DeviceError(f"cannot {what}: it is not there")
        most = number(device / "sriov_totalvfs")
        if count > most:
            raise DeviceError(f"cannot {what}: it has {f'{most} at most' if most else 'none'}")
        wanted = device / "sriov_numvfs"
        has = number(wanted)
        if has == count:
            return
        for link in sorted(device.glob("virtfn*")):
            if self._name_of(link / "driver") == _VFIO:
                raise DeviceError(f"cannot {what}: {self._name_of(link)} is in use")
        if (device / "sriov_drivers_autoprobe").exists():  # else: the node would see new ports
            self._write(device / "sriov_drivers_autoprobe", "0", what)
        if has:  # the kernel takes no other number but 0
            self._write(wanted, "0", what)
        if count:
            self._write(wanted, str(count), what)
        if number(wanted) != count:
            raise DeviceError(f"cannot {what}: its driver made {number(wanted)}")

    def drive_function(self, address: str) -> str:
        device = self._pci / "devices" / address
        what = f"have virtual function {address} driven"
        if not device.is_dir():
            raise DeviceError(f"cannot {what}: it is not there")
        driver = self._name_of(device / "driver")
        if driver == _VFIO:
            raise DeviceError(f"cannot {what}: it is in use")
        if not driver:
            probe = device / "physfn/sriov_drivers_autoprobe"  # of one that is asked to, alone
            if probe.exists():
                self._write(probe, "1", what)
            try:
                self._change_driver(device, address)
            finally:
                if probe.exists():
                    self._write(probe, "0", what)
        if not (device / "driver").exists():
            raise DeviceError(f"cannot {what}: this kernel has no driver for it")
        until = time.monotonic() + _INTERFACE
        while not (found := _entries(device / "net")):
            if time.monotonic() >= until or not (device / "driver").exists():
                raise DeviceError(f"cannot {what}: its driver makes no network interface of it")
            time.sleep(_LOOK)  # nobody tells, and some drivers first speak with the card
        return found[0]

    def free_function(self, address: str) -> None:
        device = self._pci / "devices" / address
        if self._name_of(device / "driver") not in ("", _VFIO):
            self._write(device / "driver/unbind", address, f"take virtual function {address} back")

    def read_function(self, card: str, index: int) -> VirtualFunction:
        return virtual_functions.read(self._interface_of(card), card, index)

    def set_function(self, function: VirtualFunction) -> None:
        virtual_functions.configure(self._interface_of(function.card), function)

    def _interface_of(self, card: str) -> str:
        found = _entries(self._pci / "devices" / card / "net")
        if not found:
            raise DeviceError(f"cannot set virtual functions of PCI device {card}: no interface")
        return found[0]

    def _change_driver(self, device: Path, address: str) -> None:
        if (device / "driver").exists():
            self._write(device / "driver/unbind", address, f"take PCI device {address}")
        with contextlib.suppress(DeviceError):  # there may be none that wants it
            self._write(self._pci / "drivers_probe", address, f"find {address} a driver")

    def _override(self, device: Path) -> str:
        with contextlib.suppress(OSError):
            return (device / "driver_override").read_text().strip()
        return ""

    def _name_of(self, link: Path) -> str:
        try:
            return os.path.basename(link.readlink())
        except OSError:
            return ""

    def _write(self, path: Path, text: str, what: str) -> None:
        try:
            with path.open("w") as file:
                file.write(text)
        except OSError as error:
            raise DeviceError(f"cannot {what}: {error.strerror or error}") from error


def _entries(directory: Path) -> list[str]:
    """Empty where there is no such directory."""
    try:
        return sorted(one.name for one in directory.iterdir())
    except OSError:
        return []


def _listen() -> socket.socket | None:
    """None where the kernel's words cannot be heard: then time alone tells."""
    try:
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _UEVENTS)
        events.bind((0, _FROM_KERNEL))
    except OSError:
        return None
    events.setblocking(False)
    return events


async def _heard(loop: asyncio.AbstractEventLoop, events: socket.socket) -> None:
    """Until there is an event; takes all that are there."""
    with contextlib.suppress(OSError):  # more than fit: something did change
        await loop.sock_recv(events, 8192)
    with contextlib.suppress(OSError):
        while events.recv(8192):
            pass
