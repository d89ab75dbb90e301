"""Which groups of devices apps can have: the hardware model, held against the machine. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from edgevirt.model.can import CanBus, read_can
from edgevirt.model.hardware import (
    BUSES,
    INTERFACES,
    AdapterGroup,
    AdapterMember,
    Addresses,
    Interface,
    IoType,
    IoUsage,
    MachineDevices,
    PciFunction,
    PhysicalIo,
    UsbDevice,
    find_usb,
    read_gpio,
)
from edgevirt.model.kinds import (
    ADAPTER_GROUP,
    CARD_STATUS,
    DEVICE_NETWORK_STATUS,
    MACHINE_DEVICES,
    PHYSICAL_IO,
)
from edgevirt.model.sriov import VirtualFunction, name_range
from edgevirt.node.domains.virtual_functions import (
    Found,
    count_of,
    find_functions,
    with_functions,
)
from edgevirt.runtime import Again, Inputs, Kind, Output

UNGROUPED: Final = "/"
"""Stands before the label of a device that is in no group."""
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NO_PCI_PROBLEM: Final = frozenset({IoType.COM, IoType.USB_DEVICE})


class AdapterPlanner:
    """Who has a group is not decided here."""

    name = "adapters"
    reads: tuple[Kind[Any], ...] = (
        *(PHYSICAL_IO, MACHINE_DEVICES, DEVICE_NETWORK_STATUS, CARD_STATUS),
    )
    owns: tuple[Kind[Any], ...] = (ADAPTER_GROUP,)

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        machine = inputs.get(MACHINE_DEVICES, "node")
        if machine is None:
            return
        network = inputs.get(DEVICE_NETWORK_STATUS, "node")
        used = {port.ifname for port in network.ports} if network is not None else set()
        cards, model = inputs.all(CARD_STATUS), inputs.all(PHYSICAL_IO)
        troubles = {one.label: cards[key].why for key, one in model.items() if key in cards}
        groups = plan_groups(model.values(), machine, used, troubles)
        before = inputs.all(ADAPTER_GROUP)
        for group in groups:
            yield Output(ADAPTER_GROUP, group.name, remembered(group, before.get(group.name)))


def remembered(group: AdapterGroup, before: AdapterGroup | None) -> AdapterGroup:
    """An interface that an app has is not seen here any more: what was known of it stays known."""
    if before is None:
        return group
    known = {member.label: member for member in before.members}
    members = []
    for member in group.members:
        old = known.get(member.label)
        pci = old.addresses.pci if old is not None else ""
        if old is not None and member.absent and pci and not member.addresses.pci:
            member = replace(member, addresses=replace(member.addresses, pci=pci), mac=old.mac)
        members.append(member)
    return replace(group, members=tuple(members))


def plan_groups(
    model: Iterable[PhysicalIo],
    machine: MachineDevices,
    used: Iterable[str] = (),
    troubles: Mapping[str, str] | None = None,
) -> tuple[AdapterGroup, ...]:
    """`used`: interfaces that the node reaches others by. `troubles`: with cards that are to have
    virtual functions, by label. Sorted by name.
    """
    troubles = troubles or {}
    devices = with_functions(model, machine)
    by_group: dict[str, list[PhysicalIo]] = {}
    for device in devices:
        by_group.setdefault(device.group or UNGROUPED + device.label, []).append(device)
    around = _Machine(
        machine,
        ports={d.addresses.interface: d.port for d in devices if d.port and d.addresses.interface}
        | {ifname: ifname for ifname in used},
        labels=Counter(device.label for device in devices),
        buses={d.addresses.interface: d.settings for d in devices if d.type == IoType.CAN},
        functions=find_functions(devices, machine, troubles),
        troubles=troubles,
    )
    return tuple(around.group(name, by_group[name]) for name in sorted(by_group))


class _Machine(msgspec.Struct, frozen=True):
    """`ports`: the node's, by interface. `labels`: how often the model has each. `buses`: settings
    of CAN buses, by interface. `functions`: virtual ones of network cards, by label; `troubles`
    likewise, with the cards.
    """

    devices: MachineDevices
    ports: Mapping[str, str]
    labels: Mapping[str, int]
    buses: Mapping[str, tuple[tuple[str, str], ...]]
    functions: Mapping[str, Found]
    troubles: Mapping[str, str]

    def group(self, name: str, devices: Sequence[PhysicalIo]) -> AdapterGroup:
        members = tuple(self._member(device) for device in devices)
        addresses = frozenset(member.addresses.pci for member in members if member.addresses.pci)
        port = next(filter(None, (self._port(d, m) for d, m in zip(devices, members, strict=True))),
                    "")  # fmt: skip
        disk = next(filter(None, map(self._disk, members)), "")
        reasons = [
            "it is in no group of devices" if name.startswith(UNGROUPED) else "",
            f"it is (part of) a port of the node itself, {port}" if port else "",
            f"a disk of the node itself is on it, {disk}" if disk else "",
            *filter(None, map(_split, devices)),
            *(self._flaw(device, member) for device, member in zip(devices, members, strict=True)),
        ]
        return AdapterGroup(
            name=name,
            type=devices[0].type,
            parent=next((device.parent_group for device in devices if device.parent_group), ""),
            members=members,
            node=bool(port or disk or any(map(_split, devices))),
            trouble=next(filter(None, (self.troubles.get(d.label, "") for d in devices)), ""),
            why_not=next(filter(None, reasons), ""),
            why_no_machine=next(filter(None, self._bars_machine(members, addresses)), ""),
            why_no_container=next(filter(None, map(self._bars_container, members)), ""),
        )

    def _member(self, device: PhysicalIo) -> AdapterMember:
        interface = self._interface(device)
        addresses = device.addresses
        found = self.functions.get(device.label, Found())
        if found.function is not None and not addresses.pci:
            addresses = replace(addresses, pci=self._address(found.function))
        if interface is not None and device.type in INTERFACES:
            addresses = replace(
                addresses,
                pci=addresses.pci or interface.pci,
                interface=addresses.interface or interface.name,
            )
        return AdapterMember(
            label=device.label,
            phylabel=device.phylabel,
            type=device.type,
            usage=device.usage,
            addresses=addresses,
            mac=interface.mac if interface is not None else "",
            can=self._can(device),
            function=found.function,
            absent=found.absent or next(self._absences(device, interface, addresses.pci), ""),
        )

    def _can(self, device: PhysicalIo) -> CanBus | None:
        """What is wrong with its settings is told as a flaw."""
        with suppress(ValueError):
            return read_can(self._settings(device))
        return None

    def _settings(self, device: PhysicalIo) -> tuple[tuple[str, str], ...]:
        """A logical bus is another name of one that the model sets."""
        if device.type == IoType.CAN:
            return device.settings
        if device.type == IoType.LCAN:
            return self.buses.get(device.addresses.interface, ())
        return ()

    # -- what is there --

    def _absences(self, device: PhysicalIo, interface: Interface | None, pci: str) -> Iterator[str]:
        at = device.addresses
        if at.pci and self._function(at.pci) is None:
            yield f"no PCI device is at {at.pci}"
        of_node = at.interface in self.ports  # in host mode it is in a network of the node's own
        if device.type in INTERFACES and not (pci or interface or of_node) and at.interface:
            yield f"no network interface is named {at.interface}"
        if (at.usb_port or at.usb_product) and self._usb(at) is None:
            words = [f"at {at.usb_port}"] if at.usb_port else []
            words += [f"of product {at.usb_product}"] if at.usb_product else []
            yield f"no USB device {' and '.join(words)} is plugged in"
        terminals = {path for usb in self.devices.usb for path in usb.terminals}
        if at.serial and at.serial not in terminals | set(self.devices.serial):
            yield f"no serial port is {at.serial}"
        if at.gpio:
            yield from self._absent_lines(at.gpio)

    def _absent_lines(self, gpio: str) -> Iterator[str]:
        try:
            name, lines = read_gpio(gpio)
        except ValueError:
            return
        chip = next((c for c in self.devices.gpio if name in (c.name, c.label)), None)
        if chip is None:
            yield f"no GPIO chip is named {name}"
        elif max(lines) >= chip.lines:
            yield f"GPIO chip {name} has {chip.lines} lines, and none of number {max(lines)}"

    def _function(self, address: str) -> PciFunction | None:
        return next((one for one in self.devices.pci if one.address == address), None)

    def _address(self, function: VirtualFunction) -> str:
        card = self._function(function.card)
        return card.functions[function.index] if card is not None else ""

    def _usb(self, at: Addresses) -> UsbDevice | None:
        return find_usb(self.devices, at)

    def _interface(self, device: PhysicalIo) -> Interface | None:
        """By its name, which is what ports are known by; else the one of the PCI function."""
        at, present = device.addresses, self.devices.interfaces
        named = next((one for one in present if one.name == at.interface), None)
        return named or next((one for one in present if at.pci and one.pci == at.pci), None)

    # -- whose it is --

    def _port(self, device: PhysicalIo, member: AdapterMember) -> str:
        """Also when the model calls the port by another name, or has its PCI address alone."""
        if device.port:
            return device.port
        if member.addresses.interface in self.ports:
            return self.ports[member.addresses.interface]
        carriers = self._carriers(member)
        for interface in self.devices.interfaces:
            below = interface.name in carriers or (
                bool(member.addresses.pci) and interface.pci == member.addresses.pci
            )
            if below and interface.name in self.ports:
                return self.ports[interface.name]
        return ""

    def _carriers(self, member: AdapterMember) -> set[str]:
        """Interfaces that come with the device, those at a USB controller's sockets included."""
        found: set[str] = set()
        function = self._function(member.addresses.pci)
        if function is not None:
            found.update(function.interfaces)
        usb = self._usb(member.addresses)
        if usb is not None:
            found.update(usb.interfaces)
        return found

    def _disk(self, member: AdapterMember) -> str:
        function, usb = self._function(member.addresses.pci), self._usb(member.addresses)
        disks = (*(function.disks if function else ()), *(usb.disks if usb else ()))
        return next(iter(disks), "")

    # -- why nobody can have it --

    def _flaw(self, device: PhysicalIo, member: AdapterMember) -> str:
        at = device.addresses
        usb = self._usb(at)
        if self.labels[device.label] > 1:
            return f"the model has two devices named {device.label}"
        if device.usage == IoUsage.DISABLED:
            return "the model has it disabled"
        if device.usage == IoUsage.MANAGEMENT_ONLY:
            return "the model keeps it for the node itself"
        if at == Addresses():
            return f"the model has no address of {device.label}"
        if at.pci and not _PCI.fullmatch(at.pci):
            return f"{at.pci!r} is no PCI address"
        if at.gpio:
            try:
                read_gpio(at.gpio)
            except ValueError as error:
                return str(error)
        try:
            read_can(self._settings(device))
        except ValueError as error:
            return str(error)
        if usb is not None and usb.hub:
            return f"the USB device at {usb.port} is a hub"
        return ""

    def _bars_machine(
        self, members: Sequence[AdapterMember], addresses: frozenset[str]
    ) -> Iterator[str]:
        for member in members:
            at = member.addresses
            if at.gpio:
                yield "a virtual machine cannot have GPIO lines"
            elif member.type in BUSES:
                yield _bars_bus(member)
            elif member.type in INTERFACES and not at.pci:
                yield f"a virtual machine takes {member.label} by its PCI address, and it has none"
            elif at.pci and member.type not in _NO_PCI_PROBLEM:
                yield self._apart(at.pci, addresses)

    def _apart(self, address: str, addresses: frozenset[str]) -> str:
        """Why the function's accesses to memory cannot be kept to one app's."""
        function = self._function(address)
        if function is None:
            return ""
        if not self.devices.iommu or not function.iommu_group:
            return "no I/O virtualization (IOMMU) on this machine"
        for other in self.devices.pci:
            shared = other.iommu_group == function.iommu_group and not other.is_bridge
            if shared and other.address not in addresses:
                return f"it cannot be kept apart from {other.address}, which is not in its group"
        return ""

    def _bars_container(self, member: AdapterMember) -> str:
        at = member.addresses
        if at.gpio or at.serial or at.usb_port or at.usb_product:
            return ""
        if member.type in BUSES:
            return _bars_bus(member)
        if member.type in INTERFACES:
            return ""
        return f"only a virtual machine can have {member.label}"


def _bars_bus(member: AdapterMember) -> str:
    """Why no app can have a CAN bus."""
    if member.type != IoType.VCAN and member.can is None:
        return f"the model has no bit rate for {member.label}"
    return ""


def _split(device: PhysicalIo) -> str:
    """Why no app can have a card that is to have virtual functions."""
    count = count_of(device)
    return f"apps can have {name_range(device.label, count)} of it" if count else ""
