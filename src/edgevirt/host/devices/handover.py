"""What a domain was given of the machine's devices: written down first, given back at its end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.devices import interfaces
from edgevirt.host.devices.protocol import DeviceError, Devices
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.model.can import CanBus
from edgevirt.model.sriov import VirtualFunction

_LOG: Final = logging.getLogger("edgevirt.domains")
_FILE: Final = "taken.json"


class Taken(msgspec.Struct, frozen=True):
    """`functions`: PCI addresses. `interfaces`: (name, network namespace). `virtual`: virtual
    functions, as their cards treated them before. `driven`: addresses of those that the kernel
    drives for it.
    """

    functions: tuple[str, ...] = ()
    interfaces: tuple[tuple[str, str], ...] = ()
    virtual: tuple[VirtualFunction, ...] = ()
    driven: tuple[str, ...] = ()


_TAKEN: Final = msgspec.json.Decoder(Taken)


class Handover:
    """Each domain has a directory of its own, which is there before. All block."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    def take_function(self, directory: Path, address: str) -> str:
        """The file by which it is driven. Raises HypervisorError."""
        taken = _read(directory)
        functions = (*taken.functions, address)
        _write(directory, msgspec.structs.replace(taken, functions=functions))
        try:
            return self._devices.take_pci(address)
        except DeviceError as failure:
            raise HypervisorError(str(failure)) from failure

    def set_function(self, directory: Path, function: VirtualFunction) -> None:
        """Before it is taken. Raises HypervisorError."""
        taken = _read(directory)
        try:
            if function.mac or function.vlan:
                before = self._devices.read_function(function.card, function.index)
                virtual = (*taken.virtual, before)
                _write(directory, msgspec.structs.replace(taken, virtual=virtual))
            self._devices.set_function(function)
        except DeviceError as failure:
            raise HypervisorError(str(failure)) from failure

    def _reset(self, function: VirtualFunction) -> None:
        """Some drivers refuse the address of none, which was there at first: whoever has it next is
        given a VLAN or none anyhow, and its own address if it wants one."""
        try:
            self._devices.set_function(function)
        except DeviceError as failure:
            _LOG.warning("%s; it is given back as it is", failure)

    def move_interface(
        self, directory: Path, name: str, namespace: str, can: CanBus | None = None
    ) -> None:
        """`namespace`: a path. `can`: how it is set. Raises HypervisorError."""
        taken = _read(directory)
        moved = (*taken.interfaces, (name, namespace))
        _write(directory, msgspec.structs.replace(taken, interfaces=moved))
        interfaces.give(name, Path(namespace), can)

    def move_function(
        self, directory: Path, address: str, function: VirtualFunction, name: str, namespace: str
    ) -> None:
        """Its network interface, under that name. `namespace`: a path. Raises HypervisorError."""
        self.set_function(directory, function)
        taken = _read(directory)
        _write(directory, msgspec.structs.replace(taken, driven=(*taken.driven, address)))
        try:
            now = self._devices.drive_function(address)
        except DeviceError as failure:
            raise HypervisorError(str(failure)) from failure
        self.move_interface(directory, interfaces.rename(now, name), namespace)

    def give_back(self, directory: Path) -> None:
        """All of it, whatever state it is in. Idempotent. Raises HypervisorError."""
        taken = _read(directory)
        steps: list[tuple[Callable[..., None], tuple[object, ...]]] = [
            *((interfaces.take_back, (name, Path(place))) for name, place in taken.interfaces),
            *((self._devices.free_function, (address,)) for address in taken.driven),
            *((self._devices.give_back_pci, (address,)) for address in taken.functions),
            *((self._reset, (function,)) for function in taken.virtual),
        ]
        failures = []
        for step, arguments in steps:
            try:
                step(*arguments)
            except (DeviceError, HypervisorError) as failure:
                failures.append(str(failure))
        if failures:
            raise HypervisorError("; ".join(failures))
        with suppress(FileNotFoundError):
            (directory / _FILE).unlink()


def _read(directory: Path) -> Taken:
    try:
        return _TAKEN.decode((directory / _FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Taken()


def _write(directory: Path, taken: Taken) -> None:
    part = directory / f"{_FILE}.part"
    part.write_bytes(msgspec.json.encode(taken))
    os.replace(part, directory / _FILE)
