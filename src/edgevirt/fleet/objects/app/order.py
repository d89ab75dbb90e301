"""In what order a virtual machine looks for its system, and finds its network interfaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from edgevirt.fleet.objects.app.device import AppDevice
from edgevirt.fleet.objects.app.interface import AppInterface
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, unsupported

BOOT_ORDERS: Final = ("", "USB", "NoUSB")
NETWORK_DEVICES: Final = frozenset({"Ethernet", "EthernetPF", "EthernetVF", "WLAN", "WWAN"})


def check_boot_order(wanted: str, *, machine: bool) -> Iterator[Problem]:
    """`machine`: it boots from disks."""
    if wanted not in BOOT_ORDERS:
        yield unsupported("spec.bootOrder", wanted, BOOT_ORDERS[1:])
    elif wanted and not machine:
        yield invalid("spec.bootOrder", wanted, "of a virtual machine only")


def check_interface_order(
    order: tuple[str, ...],
    interfaces: tuple[AppInterface, ...],
    devices: tuple[AppDevice, ...],
    *,
    bare: bool,
) -> Iterator[Problem]:
    """`bare`: the app is a container on the node's kernel."""
    field = "spec.interfaceOrder"
    if order and bare:
        yield invalid(field, order[0], "such a container finds its interfaces by their names")
        return
    names = [interface.name for interface in interfaces]
    names += [device.name for device in devices if device.type in NETWORK_DEVICES]
    for index, name in enumerate(order):
        if name in order[:index]:
            yield duplicate(f"{field}[{index}]", name)
        elif name not in names:
            why = "is neither an interface of it nor a device that is a network interface"
            yield invalid(f"{field}[{index}]", name, why)
        elif names.count(name) > 1:
            yield invalid(f"{field}[{index}]", name, "is both an interface and a device")


class Order(msgspec.Struct, frozen=True):
    """The place of each, by name, from 1; empty: no order is wanted."""

    interfaces: Mapping[str, int] = msgspec.field(default_factory=dict)
    devices: Mapping[str, int] = msgspec.field(default_factory=dict)


def make_order(
    order: tuple[str, ...],
    interfaces: tuple[AppInterface, ...],
    devices: tuple[AppDevice, ...],
) -> Order:
    """What `order` does not name comes after, as it is listed. Any device may turn out to have a
    network interface.
    """
    if not order:
        return Order()
    known = [("interface", one.name) for one in interfaces]
    known += [("device", one.name) for one in devices]
    ranks = {name: place for place, name in enumerate(order)}
    places: dict[str, dict[str, int]] = {"interface": {}, "device": {}}
    ranked = sorted(known, key=lambda one: ranks.get(one[1], len(ranks)))
    for place, (kind, name) in enumerate(ranked, 1):
        places[kind][name] = place
    return Order(places["interface"], places["device"])
