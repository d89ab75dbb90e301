"""HardwareModel: the devices of one kind of machine, and which of them apps may have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.fleet.objects.node.can import AdapterCan, check_can
from edgevirt.model.hardware import IoType, IoUsage, read_gpio
from edgevirt.model.sriov import MOST_FUNCTIONS, function_name

TYPES: Final = {
    "Ethernet": IoType.ETHERNET,
    "EthernetPF": IoType.ETHERNET_PF,
    "EthernetVF": IoType.ETHERNET_VF,
    "WLAN": IoType.WLAN,
    "WWAN": IoType.WWAN,
    "CAN": IoType.CAN,
    "VCAN": IoType.VCAN,
    "LCAN": IoType.LCAN,
    "USB": IoType.USB,
    "USBController": IoType.USB_CONTROLLER,
    "USBDevice": IoType.USB_DEVICE,
    "Serial": IoType.COM,
    "Audio": IoType.AUDIO,
    "HDMI": IoType.HDMI,
    "NVMe": IoType.NVME,
    "SATA": IoType.SATA,
    "GPIO": IoType.OTHER,
    "PCI": IoType.OTHER,
    "Other": IoType.OTHER,
}
"""The wire has no word of its own for GPIO lines and for PCI functions of no sort."""
USAGES: Final = {
    "": IoUsage.NONE,
    "ManagementAndApps": IoUsage.MANAGEMENT_AND_APPS,
    "Shared": IoUsage.SHARED,
    "Dedicated": IoUsage.DEDICATED,
    "Disabled": IoUsage.DISABLED,
    "ManagementOnly": IoUsage.MANAGEMENT_ONLY,
}
PHYSICAL: Final = "EthernetPF"
VIRTUAL: Final = "EthernetVF"
MOST_ADAPTERS: Final = 256
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,62}")
_SHAPES: Final = {
    "pci": (r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", "must be like 0000:03:00.0"),
    "interface": (r"[^\s/]{1,15}", "must be the name of a network interface"),
    "usbPort": (r"\d{1,3}:\d{1,3}(\.\d{1,3}){0,6}", "must be a bus and a port, like 1:2 or 1:2.4"),
    "usbProduct": (r"[0-9a-f]{4}:[0-9a-f]{4}", "must be a vendor and a product, like 046d:c52b"),
    "serial": (r"/dev/tty[A-Za-z]+\d+", "must be like /dev/ttyS1"),
}


class AdapterAddresses(ApiStruct, frozen=True, kw_only=True):
    """Where a device is found on the machine; what is given must all hold."""

    pci: str = ""
    """PCI address, `0000:03:00.0`."""
    interface: str = ""
    """Name of a network interface."""
    usb_port: str = ""
    """Bus and port of what is plugged in there, `1:2`; behind hubs `1:2.4`."""
    usb_product: str = ""
    """Vendor and product of what is plugged in anywhere, `046d:c52b`."""
    serial: str = ""
    """File of a serial port, `/dev/ttyS1`."""
    gpio: str = ""
    """A GPIO chip by its label or name, and lines of it: `gpio-sim.0:4,7`."""


class ModelAdapter(ApiStruct, frozen=True, kw_only=True):
    """A device of the machine."""

    merge_keys = ("name",)

    name: str = ""
    """Its name: what is printed on the box, or a name of its use."""
    label: str = ""
    """What is printed on the box, where that is another one."""
    type: str = ""
    """`Ethernet`, `EthernetPF`, `EthernetVF`, `WLAN`, `WWAN`, `CAN`, `VCAN`, `LCAN`, `USB`,
    `USBController`, `USBDevice`, `Serial`, `Audio`, `HDMI`, `NVMe`, `SATA`, `GPIO`, `PCI` or
    `Other`."""
    group: str = ""
    """Devices of one group are given to an app together, by this name. Empty: to none."""
    parent_group: str = ""
    """The group of what it is plugged into, such as a USB controller: only one of the two can be
    in use at a time."""
    usage: str = ""
    """`Dedicated`, `Shared`, `ManagementAndApps`, `ManagementOnly` or `Disabled`."""
    addresses: AdapterAddresses = AdapterAddresses()
    """Where it is found."""
    can: AdapterCan | None = None
    """Of a CAN bus that containers may have."""
    virtual_functions: int = 0
    """Of an `EthernetPF`: so many virtual functions the node makes of it (SR-IOV). Each is an
    `EthernetVF` in a group of its own, `eth1vf0` and so on, after the group of this one."""

    @property
    def functions(self) -> tuple[str, ...]:
        """Groups of its virtual functions."""
        of = self.group or self.name
        return tuple(function_name(of, index) for index in range(self.virtual_functions))


class HardwareModelSpec(ApiStruct, frozen=True, kw_only=True):
    """What such a machine has."""

    manufacturer: str = ""
    """Who makes it; for people."""
    product: str = ""
    """What they call it; for people."""
    adapters: tuple[ModelAdapter, ...] = ()
    """Its devices."""


class HardwareModelStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of it."""

    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""


class HardwareModel(ApiObject, frozen=True, kw_only=True):
    """The devices of one kind of machine."""

    spec: HardwareModelSpec = HardwareModelSpec()
    """What such a machine has."""
    status: HardwareModelStatus = HardwareModelStatus()
    """What is known of it."""

    def adapter(self, group: str) -> ModelAdapter | None:
        """The first of a group."""
        return next((one for one in self.spec.adapters if one.group == group), None)

    def types(self, group: str) -> frozenset[str]:
        """Of the adapters of a group, virtual functions included. None: there is no such group."""
        found = {one.type for one in self.spec.adapters if one.group == group}
        if any(group in one.functions for one in self.spec.adapters):
            found.add(VIRTUAL)
        return frozenset(found)

    @property
    def groups(self) -> tuple[str, ...]:
        own = {one.group for one in self.spec.adapters if one.group}
        return tuple(sorted(own.union(*(one.functions for one in self.spec.adapters))))


def validate(model: HardwareModel) -> Iterator[Problem]:
    adapters = model.spec.adapters
    if len(adapters) > MOST_ADAPTERS:
        yield invalid("spec.adapters", len(adapters), f"must be at most {MOST_ADAPTERS}")
        return
    seen: set[str] = set()
    lines: dict[tuple[str, int], str] = {}
    for index, adapter in enumerate(adapters):
        path = f"spec.adapters[{index}]"
        if not adapter.name:
            yield required(f"{path}.name")
        elif adapter.name in seen:
            yield duplicate(f"{path}.name", adapter.name)
        seen.add(adapter.name)
        yield from _check_words(path, adapter)
        yield from _check_addresses(path, adapter)
        yield from _check_lines(path, adapter, lines)
        if adapter.can is not None:
            yield from check_can(f"{path}.can", adapter.can, adapter.type)
        yield from _check_functions(path, adapter)


def _check_words(path: str, adapter: ModelAdapter) -> Iterator[Problem]:
    for field, value in (
        ("name", adapter.name),
        ("label", adapter.label),
        ("group", adapter.group),
        ("parentGroup", adapter.parent_group),
    ):
        if value and not _LABEL.fullmatch(value):
            why = "must be letters, digits and '.', '_', ':', '+', '-', at most 63 of them"
            yield invalid(f"{path}.{field}", value, why)
    if not adapter.type:
        yield required(f"{path}.type")
    elif adapter.type not in TYPES:
        yield unsupported(f"{path}.type", adapter.type, tuple(TYPES))
    if adapter.usage not in USAGES:
        yield unsupported(f"{path}.usage", adapter.usage, tuple(filter(None, USAGES)))
    if adapter.parent_group and adapter.parent_group == adapter.group:
        yield invalid(f"{path}.parentGroup", adapter.parent_group, "is its own group")


def _check_addresses(path: str, adapter: ModelAdapter) -> Iterator[Problem]:
    given = adapter.addresses
    if given == AdapterAddresses():
        yield required(f"{path}.addresses", "where it is found")
    values = msgspec.to_builtins(given)
    for field, (shape, why) in _SHAPES.items():
        value = values.get(field, "")
        if value and not re.fullmatch(shape, value):
            yield invalid(f"{path}.addresses.{field}", value, why)
    if (adapter.type == "GPIO") != bool(given.gpio):
        yield invalid(f"{path}.addresses.gpio", given.gpio, "a GPIO device has it, and no other")


def _check_functions(path: str, adapter: ModelAdapter) -> Iterator[Problem]:
    field, count = f"{path}.virtualFunctions", adapter.virtual_functions
    if count and adapter.type != PHYSICAL:
        yield invalid(field, count, f"of type {PHYSICAL} only")
    elif not 0 <= count <= MOST_FUNCTIONS:
        yield invalid(field, count, f"must be at most {MOST_FUNCTIONS}")
    elif count and not adapter.addresses.pci and not adapter.addresses.interface:
        yield required(f"{path}.addresses.pci", "or interface, to make virtual functions of it")


def _check_lines(
    path: str, adapter: ModelAdapter, taken: dict[tuple[str, int], str]
) -> Iterator[Problem]:
    """A line of a chip is one device's."""
    if not adapter.addresses.gpio:
        return
    field = f"{path}.addresses.gpio"
    try:
        chip, lines = read_gpio(adapter.addresses.gpio)
    except ValueError:
        why = "must be a chip and lines of it, like gpio-sim.0:4,7 or gpio-sim.0:0-3"
        yield invalid(field, adapter.addresses.gpio, why)
        return
    for line in lines:
        other = taken.setdefault((chip, line), adapter.name)
        if other != adapter.name:
            why = f"line {line} of {chip} is {other!r} already"
            yield duplicate(field, adapter.addresses.gpio, why)


def _groups(model: HardwareModel, _now: float) -> str:
    return ",".join(model.groups) or "<none>"


COLUMNS = (
    NAME,
    Column("Manufacturer", lambda m, _: m.spec.manufacturer or "<none>"),
    Column("Product", lambda m, _: m.spec.product or "<none>"),
    Column("Adapters", lambda m, _: len(m.spec.adapters), "integer"),
    Column("Groups", _groups, priority=1, description="What apps can be given"),
    AGE,
)
