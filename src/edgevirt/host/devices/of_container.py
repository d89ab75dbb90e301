"""Devices of a container: which files of the node's it finds in its own /dev."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgevirt.host.devices.handover import Handover
from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.model.app import Domain
from edgevirt.model.hardware import INTERFACES, DomainDevice, MachineDevices, find_usb

_VARIABLE: Final = "EDGEVIRT_DEVICE_"


@dataclass(frozen=True)
class DeviceNode:
    """`path` is the same on the node and in the container. `label`: the device's it belongs to."""

    label: str
    path: str
    major: int
    minor: int


def interfaces(domain: Domain) -> tuple[str, ...]:
    """Those that it gets."""
    return tuple(
        device.addresses.interface
        for device in domain.devices
        if device.type in INTERFACES and device.addresses.interface
    )


def nodes(
    directory: Path, domain: Domain, machine: MachineDevices, handover: Handover
) -> tuple[DeviceNode, ...]:
    """Blocks. Raises HypervisorError, UnfitError."""
    return tuple(
        _node(device.label, path)
        for device in domain.devices
        for path in _paths(directory, device, machine, handover)
    )


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
        for node in nodes
    ]


def allowed(nodes: tuple[DeviceNode, ...]) -> list[dict[str, object]]:
    """`linux.resources.devices`."""
    return [
        {"allow": True, "type": "c", "major": node.major, "minor": node.minor, "access": "rw"}
        for node in nodes
    ]


def _paths(
    directory: Path, device: DomainDevice, machine: MachineDevices, handover: Handover
) -> Iterator[str]:
    at = device.addresses
    if at.gpio:
        yield handover.make_chip(directory, at.gpio).path
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


def _node(label: str, path: str) -> DeviceNode:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise HypervisorError(f"cannot give {label} to the app: {error}") from error
    if not stat.S_ISCHR(found.st_mode):
        raise UnfitError(f"cannot give {label} to the app: {path} is no device")
    return DeviceNode(label, path, os.major(found.st_rdev), os.minor(found.st_rdev))
