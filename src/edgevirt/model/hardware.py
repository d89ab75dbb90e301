"""Devices of the machine that apps can have for themselves.

A hardware model names the devices (`PhysicalIo`) and puts them into **groups**: a group is what an
app is given, whole. What the machine really has is measured (`MachineDevices`), and the two
together tell what can be given (`AdapterGroup`). Addresses are as the kernel prints them.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from msgspec.structs import replace

from edgevirt.model.base import Noun
from edgevirt.model.can import CanBus
from edgevirt.model.ids import AppId
from edgevirt.model.sriov import FunctionSettings, VirtualFunction

_MOST_LINES: Final = 64
_CHIP: Final = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
"""A name that can stand in the kernel's interface for chips without being read as another word."""


class IoType(enum.IntEnum):
    """`PhyIoType` of the wire. A number that is not here stays a number."""

    NOOP = 0
    ETHERNET = 1
    USB = 2
    COM = 3
    AUDIO = 4
    WLAN = 5
    WWAN = 6
    HDMI = 7
    NVME = 9
    SATA = 10
    ETHERNET_PF = 11
    ETHERNET_VF = 12
    USB_CONTROLLER = 13
    USB_DEVICE = 14
    CAN = 15
    VCAN = 16
    LCAN = 17
    OTHER = 255


class IoUsage(enum.IntEnum):
    """`PhyIoMemberUsage` of the wire."""

    NONE = 0
    MANAGEMENT_AND_APPS = 1
    SHARED = 2
    DEDICATED = 3
    DISABLED = 4
    MANAGEMENT_ONLY = 5


INTERFACES = frozenset(
    {IoType.ETHERNET, IoType.WLAN, IoType.WWAN, IoType.ETHERNET_PF, IoType.ETHERNET_VF}
    | {IoType.CAN, IoType.VCAN, IoType.LCAN}
)
"""Types that are a network interface to the kernel."""

BUSES = frozenset({IoType.CAN, IoType.VCAN, IoType.LCAN})
NETWORKS = INTERFACES - BUSES


class Addresses(Noun, frozen=True, kw_only=True):
    """Where a device is found. What is given must all hold; empty: not given."""

    pci: str = ""
    """`0000:03:00.0`."""
    interface: str = ""
    """Name of a network interface."""
    usb_port: str = ""
    """Bus and port: `1:2`, behind hubs `1:2.4`."""
    usb_product: str = ""
    """Vendor and product: `046d:c52b`."""
    serial: str = ""
    """`/dev/ttyS1`."""
    gpio: str = ""
    """A chip, by its label or name, and lines of it: `gpio-sim.0:4,7`."""


class PhysicalIo(Noun, frozen=True, kw_only=True):
    """A device that the hardware model names. Key: `label`. agent → domains."""

    label: str
    """Logical label; where there is none, the physical one."""
    phylabel: str = ""
    type: int
    """An IoType, or a number that only others know."""
    group: str = ""
    """Empty: it can never be given to an app."""
    parent_group: str = ""
    """The group of what it is plugged into; both cannot be given away at once."""
    usage: int = 0
    addresses: Addresses = Addresses()
    settings: tuple[tuple[str, str], ...] = ()
    """Of a CAN bus (`model.can`), or the number of virtual functions (`model.sriov`); in order."""
    function_count: int = 0
    """So many virtual functions a network card is to have; another word for the setting."""
    functions: tuple[FunctionSettings, ...] = ()
    """Of those of which more is said."""
    port: str = ""
    """The node's own port that it is."""
    rest: bytes = b""


class Adapter(Noun, frozen=True, kw_only=True):
    """What an app asks for: a group, by name."""

    name: str
    type: int = 0
    function: FunctionSettings | None = None
    """Of a virtual function of a network card."""
    order: int = 0
    """Of a network interface, as that of `AppInterface`."""


# -- what the machine has --


class PciFunction(Noun, frozen=True, kw_only=True):
    address: str
    vendor: int = 0
    product: int = 0
    kind: int = 0
    """Class code, three bytes."""
    driver: str = ""
    iommu_group: str = ""
    """Empty: nothing keeps its memory accesses apart."""
    interfaces: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    """Those below it that the node has mounted."""
    most_functions: int = 0
    """So many virtual functions it can have."""
    functions: tuple[str, ...] = ()
    """Addresses of those that it has, by number."""
    card: str = ""
    """Of a virtual function: the address of the physical one."""

    @property
    def is_bridge(self) -> bool:
        return self.kind >> 16 == 0x06


class UsbDevice(Noun, frozen=True, kw_only=True):
    port: str
    """As `Addresses.usb_port`."""
    vendor: int
    product: int
    node: str
    """Its file: `/dev/bus/usb/001/004`; another one after each plugging in."""
    hub: bool = False
    controller: str = ""
    """PCI address."""
    interfaces: tuple[str, ...] = ()
    terminals: tuple[str, ...] = ()
    """Serial ports that it brings: `/dev/ttyUSB0`."""
    disks: tuple[str, ...] = ()
    """As PciFunction's."""


class Interface(Noun, frozen=True, kw_only=True):
    name: str
    mac: str = ""
    can: bool = False
    pci: str = ""


class GpioChip(Noun, frozen=True, kw_only=True):
    name: str
    """`gpiochip0`."""
    label: str = ""
    lines: int = 0


class MachineDevices(Noun, frozen=True, kw_only=True):
    """Key: `node`. domains → agent. What it has just now, devices that apps have included."""

    pci: tuple[PciFunction, ...] = ()
    usb: tuple[UsbDevice, ...] = ()
    serial: tuple[str, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    gpio: tuple[GpioChip, ...] = ()
    iommu: bool = False
    """Whether the machine can keep a device's memory accesses to one app's."""


# -- both together --


class AdapterMember(Noun, frozen=True, kw_only=True):
    """A device of a group, resolved on this machine."""

    label: str
    phylabel: str = ""
    type: int
    usage: int = 0
    addresses: Addresses = Addresses()
    """Those of the model; a network interface's PCI address is filled in."""
    mac: str = ""
    can: CanBus | None = None
    """How the bus is set before an app has it."""
    function: VirtualFunction | None = None
    """Where it is one; with what the model says of it."""
    absent: str = ""
    """Why it is not there: a sentence's end, such as «no USB device is at 1:2»."""

    @property
    def pluggable(self) -> bool:
        """May come and go while an app has it."""
        return bool(self.addresses.usb_port or self.addresses.usb_product)


class AdapterGroup(Noun, frozen=True, kw_only=True):
    """Key: its name; of a device that is in none, `/` and the label. domains → apps, agent."""

    name: str
    type: int
    parent: str = ""
    members: tuple[AdapterMember, ...] = ()
    node: bool = False
    """The node itself uses it."""
    trouble: str = ""
    """What is wrong with it besides: «cannot X: why»."""
    why_not: str = ""
    """Why no app can have it: a sentence's end."""
    why_no_machine: str = ""
    """Why no virtual machine can have it."""
    why_no_container: str = ""


class AdapterUse(Noun, frozen=True, kw_only=True):
    """Who has a group. Key: its name. apps → agent."""

    app: AppId
    functions: tuple[VirtualFunction, ...] = ()
    """The app's, as it wants them."""


class DomainDevice(Noun, frozen=True, kw_only=True):
    """A device that a domain has for itself."""

    label: str
    type: int
    addresses: Addresses
    can: CanBus | None = None
    function: VirtualFunction | None = None
    """How it is set while the domain has it."""
    place: int = 0
    """Of a network interface: as that of a DomainVif."""


def as_used(group: AdapterGroup, use: AdapterUse | None) -> AdapterGroup:
    """With its virtual functions as they are set for the app that has them."""
    set_for = {(one.card, one.index): one for one in use.functions} if use is not None else {}
    members = tuple(
        replace(member, function=set_for.get((found.card, found.index), found))
        if (found := member.function) is not None
        else member
        for member in group.members
    )
    return replace(group, members=members)


def find_usb(machine: MachineDevices, at: Addresses) -> UsbDevice | None:
    """The one that is plugged in there, and is of that product."""
    if not (at.usb_port or at.usb_product):
        return None
    for device in machine.usb:
        product = f"{device.vendor:04x}:{device.product:04x}"
        if at.usb_port in ("", device.port) and at.usb_product.lower() in ("", product):
            return device
    return None


def read_gpio(text: str) -> tuple[str, tuple[int, ...]]:
    """Chip and lines of `chip:4,7` or `chip:0-3`. Raises ValueError, with a sentence's end."""
    chip, colon, given = text.rpartition(":")
    lines: list[int] = []
    try:
        for part in given.split(","):
            first, _, last = part.partition("-")
            lines.extend(range(int(first), int(last or first) + 1)[: _MOST_LINES + 1])
    except ValueError:
        lines = []
    bad = not colon or not _CHIP.fullmatch(chip) or not 0 < len(lines) <= _MOST_LINES
    if bad or len(set(lines)) != len(lines):
        raise ValueError(f"{text!r} is no GPIO chip with lines of it, such as gpio-sim.0:4,7")
    return chip, tuple(lines)
