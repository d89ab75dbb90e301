"""Gives out MAC and IP addresses and ports of the node, once each.

Whoever has one keeps it for as long as it wants it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from edgevirt.host.net.canonical import mac_address
from edgevirt.model.ids import AppId
from edgevirt.model.network import AppInterface, NetworkInstance


class AddressError(Exception):
    """Why an app cannot have an address."""


class Register:
    """Who has what. Names are for people."""

    def __init__(self) -> None:
        self._owners: dict[Hashable, tuple[AppId, str]] = {}

    def hold(self, thing: Hashable, app: AppId, name: str) -> str:
        """Whose it is: «» if the app has it now, else the owner's name."""
        owner = self._owners.setdefault(thing, (app, name))
        return "" if owner[0] == app else owner[1]

    def keep_only(self, app: AppId, things: Iterable[Hashable]) -> None:
        """Releases the app's others."""
        kept = set(things)
        for thing, owner in list(self._owners.items()):
            if owner[0] == app and thing not in kept:
                del self._owners[thing]

    def is_free(self, thing: Hashable) -> bool:
        return thing not in self._owners


def assign_mac(app: AppId, app_num: int, index: int, interface: AppInterface) -> str:
    """What is wanted, or a locally administered one that follows from who asks."""
    if interface.mac:
        mac = interface.mac.lower().replace("-", ":")
        try:
            octets = bytes.fromhex(mac_address(mac).replace(":", ""))
        except ValueError as error:
            raise AddressError(str(error)) from None
        if octets[0] & 1 or not any(octets):
            raise AddressError(f"{mac} is not the MAC address of one interface")
        return mac
    seed = f"{app}|{interface.network}|{index}|{app_num}"
    return "02:" + hashlib.sha256(seed.encode()).digest()[:5].hex(":")


def assign_ip(
    instance: NetworkInstance,
    interface: AppInterface,
    before: str,
    is_free: Callable[[str], bool],
) -> str:
    """The static one, the one of before, or the smallest free one of the DHCP range.

    Raises AddressError when there is none. A static one may be another app's.
    """
    if interface.ip:
        return _static(interface.ip, instance)
    first, last = IPv4Address(instance.dhcp_first), IPv4Address(instance.dhcp_last)
    if before and first <= IPv4Address(before) <= last:
        return before
    for number in range(int(first), int(last) + 1):
        address = str(IPv4Address(number))
        if is_free(address):
            return address
    raise AddressError(f"every address from {first} to {last} is taken")


def _static(text: str, instance: NetworkInstance) -> str:
    subnet = IPv4Network(instance.subnet, strict=False)
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise AddressError(f"{text!r} is not an IPv4 address") from None
    edges = (subnet.network_address, subnet.broadcast_address)
    if address not in subnet or address in edges:
        raise AddressError(f"the address {address} is not one for apps of {subnet}")
    if address == IPv4Address(instance.gateway):
        raise AddressError(f"the address {address} is the gateway's")
    return str(address)
