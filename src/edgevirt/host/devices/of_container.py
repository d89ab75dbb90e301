"""Devices of a container: which files of the node's it finds in its own /dev."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import Final

import msgspec

from edgevirt.host.devices.gpio_warden import Grant
from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.model.can import CanBus
from edgevirt.model.domain import Domain
from edgevirt.model.hardware import INTERFACES, DomainDevice, MachineDevices, find_usb, read_gpio
from edgevirt.model.sriov import VirtualFunction

_VARIABLE: Final = "EDGEVIRT_DEVICE_"


class DeviceNode(msgspec.Struct, frozen=True):
    """`path` is the same on the node and in the container. `label`: the device's it belongs to.
    `major`, `minor`: of the kernel that the container runs on.
    """

    label: str
    path: str
    major: int
    minor: int


class Given(msgspec.Struct, frozen=True):
    """What a container gets. `warden`: socket of who looks at its requests for GPIO lines."""

    nodes: tuple[DeviceNode, ...] = ()
    warden: str = ""


def interfaces(domain: Domain) -> tuple[tuple[str, CanBus | None], ...]:
    """Those that it gets, and how a CAN bus among them is set."""
    return tuple(
        (device.addresses.interface, device.can)
        for device in domain.devices
        if device.type in INTERFACES and device.addresses.interface and device.function is None
    )


def functions(domain: Domain) -> tuple[tuple[str, str, VirtualFunction], ...]:
    """Virtual functions whose interfaces it gets: the names that these get, and PCI addresses."""
    return tuple(
        (device.label, device.addresses.pci, device.function)
        for device in domain.devices
        if device.function is not None
    )


def nodes(domain: Domain, machine: MachineDevices) -> tuple[DeviceNode, ...]:
    """Blocks. Raises HypervisorError, UnfitError."""
    return tuple(
        _node(device.label, path) for device in domain.devices for path in _paths(device, machine)
    )


def _once(nodes: tuple[DeviceNode, ...]) -> tuple[DeviceNode, ...]:
    """Two devices may be lines of one chip."""
    return tuple({node.path: node for node in nodes}.values())


def grants(domain: Domain, machine: MachineDevices) -> tuple[Grant, ...]:
    """Lines of GPIO chips that it may request. Raises HypervisorError."""
    chips = (_chip(machine, device.addresses.gpio) for device in domain.devices
             if device.addresses.gpio)  # fmt: skip
    return tuple(Grant(path, lines) for path, lines in chips)


def variables(nodes: tuple[DeviceNode, ...]) -> dict[str, str]:
    """Tells the app where each of its devices is, by its name in the hardware model."""
    found: dict[str, str] = {}
    for node in nodes:
        name = _VARIABLE + re.sub(r"[^A-Z0-9]", "_", node.label.upper())
        found[name] = f"{found[name]} {node.path}" if name in found else node.path
    return found


def runtime_devices(nodes: tuple[DeviceNode, ...], uid: int, gid: int) -> list[dict[str, object]]:
    """`linux.devices` of the OCI runtime specification."""
    return [
        {
            "path": node.path,
            "type": "c",
            "major": node.major,
            "minor": node.minor,
            "fileMode": 0o600,
            "uid": uid,
            "gid": gid,
        }
        for node in _once(nodes)
    ]


def allowed(nodes: tuple[DeviceNode, ...]) -> list[dict[str, object]]:
    """`linux.resources.devices`."""
    return [
        {"allow": True, "type": "c", "major": node.major, "minor": node.minor, "access": "rw"}
        for node in nodes
    ]


def _paths(device: DomainDevice, machine: MachineDevices) -> Iterator[str]:
    at = device.addresses
    if at.gpio:
        yield _chip(machine, at.gpio)[0]
    elif at.serial:
        yield at.serial
    elif device.type in INTERFACES:
        return
    elif at.usb_port or at.usb_product:
        found = find_usb(machine, at)
        if found is None:
            raise HypervisorError(f"cannot run: {device.label} is not plugged in")
        if found.hub or found.disks:
            raise HypervisorError(f"cannot run: {device.label} is a hub, or the node's disk")
        yield found.node
        yield from found.terminals
    else:
        raise UnfitError(f"cannot run: a container cannot have {device.label}")


def _chip(machine: MachineDevices, gpio: str) -> tuple[str, tuple[int, ...]]:
    """Its file, and the lines."""
    try:
        name, lines = read_gpio(gpio)
    except ValueError as error:
        raise UnfitError(f"cannot run: {error}") from error
    found = next((chip for chip in machine.gpio if name in (chip.name, chip.label)), None)
    if found is None or max(lines) >= found.lines:
        raise HypervisorError(f"cannot run: no GPIO chip {name} with these lines is there")
    return f"/dev/{found.name}", lines


def _node(label: str, path: str) -> DeviceNode:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise HypervisorError(f"cannot give {label} to the app: {error}") from error
    if not stat.S_ISCHR(found.st_mode):
        raise UnfitError(f"cannot give {label} to the app: {path} is no device")
    return DeviceNode(label, path, os.major(found.st_rdev), os.minor(found.st_rdev))
