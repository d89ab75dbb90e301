"""USB devices of a running virtual machine: given to it when they are plugged in, and again.

QEMU cannot open them itself: it gets each one's file, open, by its monitor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.devices.of_machine import sockets
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.kvm.qmp import ask, lend
from edgevirt.model.hardware import DomainDevice, MachineDevices, UsbDevice, find_usb

_FILE: Final = "plugged.json"
_FIRST_SET: Final = 200


class Plugged(msgspec.Struct, frozen=True):
    """`nodes`: by the device's label, its file and QEMU's name of it. `count`: of names so far."""

    nodes: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    count: int = 0


async def attend(
    directory: Path,
    monitor: Path,
    devices: Sequence[DomainDevice],
    machine: MachineDevices,
    first: int | None = None,
    root: Path = Path("/"),
) -> tuple[str, ...]:
    """Makes what the guest has match what is plugged in; what is missing, in words.

    `directory`: the domain's, where that is kept in mind. `first`: as `disks.first_plugged` has it.
    Raises HypervisorError.
    """
    before = _read(directory)
    nodes, count = dict(before.nodes), before.count
    missing = []
    for port, device in enumerate(sockets(devices), 1):
        found = find_usb(machine, device.addresses)
        known = nodes.get(device.label)
        if known is not None and (found is None or found.node != known[0]):
            with suppress(HypervisorError):  # it may have left by itself
                await ask(monitor, "device_del", id=known[1])
            del nodes[device.label]
            known = None
        if found is None:
            missing.append(f"{device.label} is not plugged in")
        elif known is None:
            for why in _barred(found, named=bool(device.addresses.usb_product)):
                missing.append(f"{device.label} is not given to it: {why}")
                break
            else:
                name = f"usb{count}"
                count += 1
                _write(directory, Plugged(nodes, count))
                node = root / found.node.lstrip("/")
                words = device_words(name, port, first)
                await _plug(monitor, node, _FIRST_SET + count, words)
                nodes[device.label] = (found.node, name)
    now = Plugged(nodes, count)
    if now != before:
        _write(directory, now)
    return tuple(missing)


def device_words(name: str, port: int, first: int | None) -> dict[str, object]:
    """What QEMU is told of one, besides its file. Sockets that are empty keep their place."""
    words: dict[str, object] = {
        "driver": "usb-host",
        "id": name,
        "bus": "usb.0",
        "port": str(port),
    }
    if first is not None:
        words["bootindex"] = first + port - 1
    return words


def _barred(device: UsbDevice, *, named: bool) -> Iterator[str]:
    """What may have been plugged into the socket meanwhile. `named`: the model says what it is."""
    if device.hub:
        yield "it is a hub"
    if device.disks:
        yield "the node uses it as a disk"
    if device.interfaces and not named:
        yield "it is a network adapter, and the model has no usbProduct"


async def _plug(monitor: Path, node: Path, number: int, device: Mapping[str, object]) -> None:
    try:
        opened = os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise HypervisorError(f"cannot give {node} to the machine: {error}") from error
    try:
        given = {**device, "hostdevice": f"/dev/fdset/{number}"}
        await lend(monitor, opened, number, "device_add", given)
    finally:
        os.close(opened)


def _read(directory: Path) -> Plugged:
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=Plugged)
    except FileNotFoundError:
        return Plugged()


def _write(directory: Path, plugged: Plugged) -> None:
    part = directory / f"{_FILE}.part"
    part.write_bytes(msgspec.json.encode(plugged))
    os.replace(part, directory / _FILE)
