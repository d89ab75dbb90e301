"""Virtual functions of network cards: which a model wants, and which of them are there. Pure.

A card that is to have some is a device of the model; they are devices besides, by names that are
made from its own, unless the model has devices of these names already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.model.hardware import (
    Addresses,
    IoType,
    IoUsage,
    MachineDevices,
    PciFunction,
    PhysicalIo,
)
from edgevirt.model.sriov import (
    COUNT_SETTING,
    MOST_FUNCTIONS,
    FunctionSettings,
    VirtualFunction,
    check_settings,
    function_name,
    name_range,
    read_function_name,
)

_NOTHING: Final = FunctionSettings()


class Found(msgspec.Struct, frozen=True):
    """A virtual function of the model on this machine. `absent`: why it is not there."""

    function: VirtualFunction | None = None
    absent: str = ""


class Split(msgspec.Struct, frozen=True):
    """What is to be done about a card: `make` so many; or `why` that cannot be."""

    address: str = ""
    make: int | None = None
    why: str = ""


def wanted_count(device: PhysicalIo) -> int:
    """Raises ValueError: «cannot make …: why»."""
    text = dict(device.settings).get(COUNT_SETTING, "").strip()
    what = "cannot make virtual functions of"
    if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f"{what} {device.label}: {text[:32]!r} is no number of them")
    setting = int(text or 0)
    count = device.function_count or setting
    if setting and count != setting:
        raise ValueError(f"{what} {device.label}: the model says {count}, and {setting} too")
    if count and device.type != IoType.ETHERNET_PF:
        raise ValueError(f"{what} {device.label}: only of an Ethernet PF, which it is not")
    if count > MOST_FUNCTIONS:
        raise ValueError(f"{what} {device.label}: {count} are more than {MOST_FUNCTIONS}")
    for settings in device.functions if device.type == IoType.ETHERNET_PF else ():
        if settings.index >= count:
            why = f"the model sets number {settings.index}, and wants {count}"
            raise ValueError(f"{what} {device.label}: {why}")
        if flaw := check_settings(settings):
            raise ValueError(f"{what} {device.label}: of number {settings.index} {flaw}")
    return count


def count_of(device: PhysicalIo) -> int:
    """0 where something is wrong."""
    try:
        return wanted_count(device)
    except ValueError:
        return 0


def with_functions(model: Iterable[PhysicalIo], machine: MachineDevices) -> tuple[PhysicalIo, ...]:
    """The model, and the virtual functions that its cards are to have."""
    devices = list(model)
    labels = {device.label for device in devices}
    made = [
        function
        for device in devices
        for function in _functions(device, machine)
        if function.label not in labels
    ]
    return (*devices, *made)


def _functions(device: PhysicalIo, machine: MachineDevices) -> Iterator[PhysicalIo]:
    card = card_of(device, machine)
    addresses = card.functions if card is not None else ()
    usage = IoUsage.DEDICATED if device.usage == IoUsage.MANAGEMENT_ONLY else device.usage
    interface = device.addresses.interface or device.label
    for index in range(count_of(device)):
        at = Addresses(interface=function_name(interface, index))
        if index < len(addresses):
            at = Addresses(pci=addresses[index])
        yield PhysicalIo(
            label=function_name(device.label, index),
            phylabel=function_name(device.phylabel or device.label, index),
            type=IoType.ETHERNET_VF,
            group=function_name(device.group or device.label, index),
            usage=usage,
            addresses=at,
        )


def find_functions(
    model: Sequence[PhysicalIo], machine: MachineDevices, troubles: Mapping[str, str]
) -> dict[str, Found]:
    """By label: those of the model. `troubles`: why cards have not what is wanted, by label."""
    cards = [device for device in model if device.type == IoType.ETHERNET_PF]
    return {
        device.label: _find(device, cards, machine, troubles)
        for device in model
        if device.type == IoType.ETHERNET_VF
    }


def _find(
    device: PhysicalIo,
    cards: Sequence[PhysicalIo],
    machine: MachineDevices,
    troubles: Mapping[str, str],
) -> Found:
    at = device.addresses
    address = at.pci or next((i.pci for i in machine.interfaces if i.name == at.interface), "")
    known = {one.address: one for one in machine.pci}
    if (function := known.get(address)) is not None:
        card = known.get(function.card)
        if card is None or address not in card.functions:
            return Found(absent=f"PCI device {address} is no virtual function")
        index = card.functions.index(address)
        return Found(_set(VirtualFunction(card=card.address, index=index), cards, machine))
    if at.pci:
        return Found()
    named = read_function_name(at.interface or device.label)
    if named is None:
        return Found()
    name, index = named
    for one in cards:
        if name in (one.addresses.interface, one.label):
            return _of_card(one, index, machine, troubles)
    for interface in machine.interfaces:
        card = known.get(interface.pci) if interface.name == name else None
        if card is not None and index < len(card.functions):
            return Found(VirtualFunction(card=card.address, index=index))
    return Found()


def _of_card(
    device: PhysicalIo, index: int, machine: MachineDevices, troubles: Mapping[str, str]
) -> Found:
    card, count = card_of(device, machine), count_of(device)
    if card is not None and index < len(card.functions):
        return Found(_set(VirtualFunction(card=card.address, index=index), (device,), machine))
    if trouble := troubles.get(device.label, ""):
        return Found(absent=trouble)
    if index >= count:
        has = f"has {name_range(device.label, count)}" if count else "is to have none"
        return Found(absent=f"{device.label} {has}")
    return Found(absent=f"{device.label} has no virtual function {index} yet")


def _set(
    function: VirtualFunction, cards: Iterable[PhysicalIo], machine: MachineDevices
) -> VirtualFunction:
    """With what the model says of it."""
    for device in cards:
        card = card_of(device, machine)
        if card is not None and card.address == function.card and count_of(device):
            said = next((s for s in device.functions if s.index == function.index), _NOTHING)
            return replace(function, mac=said.mac.lower(), vlan=said.vlan)
    return function


def card_of(device: PhysicalIo, machine: MachineDevices) -> PciFunction | None:
    at = device.addresses
    address = at.pci or next((i.pci for i in machine.interfaces if i.name == at.interface), "")
    return next((one for one in machine.pci if address and one.address == address), None)


def plan_split(device: PhysicalIo, machine: MachineDevices, users: Mapping[str, str]) -> Split:
    """`users`: the app that has a PCI function, by its address.

    Another number than there is makes all of a card's virtual functions anew, so that none of
    them may be in use. A card of which none are wanted is left as it is.
    """
    try:
        count = wanted_count(device)
    except ValueError as flaw:
        return Split(why=str(flaw))
    if not count:
        return Split()
    what = f"cannot make {count} virtual functions of {device.label}"
    card = card_of(device, machine)
    if card is None:
        at = device.addresses.pci or device.addresses.interface or device.label
        return Split(why=f"{what}: {at} is not there, or no PCI device")
    if len(card.functions) == count:
        return Split(card.address)
    if not card.most_functions:
        return Split(why=f"{what}: it has no SR-IOV, or that is switched off in the firmware")
    if count > card.most_functions:
        return Split(why=f"{what}: it has {card.most_functions} at most")
    if user := users.get(card.address) or _driver_user(card.address, machine):
        return Split(why=f"{what}: it is used by {user}")
    for index, address in enumerate(card.functions):
        user = users.get(address) or _driver_user(address, machine)
        if user:
            name = function_name(device.label, index)
            return Split(why=f"{what}: it has {len(card.functions)}, and {name} is used by {user}")
    return Split(card.address, make=count)


def _driver_user(address: str, machine: MachineDevices) -> str:
    """Whoever drives it by vfio is not the node."""
    taken = any(one.address == address and one.driver == "vfio-pci" for one in machine.pci)
    return "a virtual machine" if taken else ""
