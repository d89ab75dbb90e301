"""Devices of a virtual machine, as QEMU is told of them. Pure.

PCI functions, serial ports and cards of CAN buses are there from the start. What is plugged into a
USB socket may come and go, and is told to QEMU's monitor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from edgevirt.host.hypervisor import UnfitError
from edgevirt.model.hardware import BUSES, DomainDevice

FIRST_TERMINAL: Final = 70
MOST_TERMINALS: Final = 3
"""A PC has four serial ports, and the first is the console."""
MOST_SOCKETS: Final = 15
"""QEMU's controller has no more; what is plugged into the first of them comes to its port 1."""
_MOST_FUNCTIONS: Final = 16
_MOST_BUSES: Final = 8
_FIRST_PLACE: Final = 0x0F
"""To 0x1e, all that are free behind it; `image/files/guest/plugged.sh` has them, too."""


def functions(devices: Sequence[DomainDevice]) -> tuple[str, ...]:
    """PCI addresses."""
    return tuple(device.addresses.pci for device in _functions(devices))


def terminals(devices: Sequence[DomainDevice]) -> tuple[str, ...]:
    """Files of serial ports."""
    return tuple(device.addresses.serial for device in devices if _is_serial(device))


def sockets(devices: Sequence[DomainDevice]) -> tuple[DomainDevice, ...]:
    """Those that may come and go."""
    return tuple(
        device
        for device in devices
        if not device.addresses.serial
        and not device.addresses.pci
        and (device.addresses.usb_port or device.addresses.usb_product)
    )


def buses(devices: Sequence[DomainDevice]) -> tuple[DomainDevice, ...]:
    """CAN buses. The guest has none of their hardware: QEMU shows it a card on each."""
    return tuple(one for one in devices if one.type in BUSES and one.addresses.interface)


def bus_name(index: int) -> str:
    """As QEMU calls the bus."""
    return f"can{index}"


def check(devices: Sequence[DomainDevice]) -> None:
    """Raises UnfitError."""
    served = {*functions(devices), *terminals(devices)}
    pluggable, joined = sockets(devices), buses(devices)
    for device in devices:
        at = device.addresses
        if device not in (*pluggable, *joined) and not served.intersection((at.pci, at.serial)):
            raise UnfitError(f"cannot run: a virtual machine cannot have {device.label}")
    if len(terminals(devices)) > MOST_TERMINALS:
        raise UnfitError(f"cannot run: at most {MOST_TERMINALS} serial ports fit")
    if len(joined) > _MOST_BUSES:
        raise UnfitError(f"cannot run: at most {_MOST_BUSES} CAN buses fit")
    if len(pluggable) > MOST_SOCKETS:
        raise UnfitError(f"cannot run: at most {MOST_SOCKETS} USB devices fit")
    if len(functions(devices)) > _MOST_FUNCTIONS:
        raise UnfitError(f"cannot run: at most {_MOST_FUNCTIONS} PCI functions fit")


def files(devices: Sequence[DomainDevice]) -> Iterator[tuple[int, str]]:
    """What must be open for reading and writing: descriptor and path."""
    for index, path in enumerate(terminals(devices)):
        yield FIRST_TERMINAL + index, path


def places(devices: Sequence[DomainDevice]) -> Iterator[tuple[str, str]]:
    """Where a guest of ours finds each: its port of the USB controller (`usb-1`), or its place on
    the first bus (`pci-0f`), and its label.
    """
    for index, device in enumerate(sockets(devices), 1):
        yield f"usb-{index}", device.label
    placed = functions(devices)
    for device in devices:
        if device.addresses.pci in placed and not _is_serial(device):
            place = _FIRST_PLACE + placed.index(device.addresses.pci)
            yield f"pci-{place:02x}", device.label


def words(devices: Sequence[DomainDevice], *, legacy: bool) -> list[str]:
    """Of all but the PCI functions."""
    told: list[str] = []
    for index, (descriptor, _) in enumerate(files(devices)):
        told += ["-chardev", f"serial,id=com{index},path=/dev/fdset/{descriptor}"]
        told += ["-serial", f"chardev:com{index}"]
    if sockets(devices):
        ports = f",p2={MOST_SOCKETS},p3={MOST_SOCKETS}"
        controller = "piix3-usb-uhci" if legacy else f"qemu-xhci{ports}"
        told += ["-device", f"{controller},id=usb"]
    for index in range(len(buses(devices))):
        told += ["-object", f"can-bus,id={bus_name(index)}"]
        told += ["-device", f"kvaser_pci,canbus={bus_name(index)}"]
    return told


def function_words(
    devices: Sequence[DomainDevice], *, placed: bool
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Of each PCI function: its place among network interfaces (`DomainDevice.place`), and words.

    `placed`: each at an address by which a guest of ours knows it from what it would have anyway.
    """
    for index, device in enumerate(_functions(devices)):
        where = f",addr={_FIRST_PLACE + index:#x}" if placed else ""
        yield (
            device.place,
            ("-device", f"vfio-pci,host={device.addresses.pci},id=pci{index}{where}"),
        )


def _functions(devices: Sequence[DomainDevice]) -> Iterator[DomainDevice]:
    kept = (one for one in devices if one.type not in BUSES)
    return (one for one in kept if one.addresses.pci and not _is_serial(one))


def _is_serial(device: DomainDevice) -> bool:
    return bool(device.addresses.serial)
