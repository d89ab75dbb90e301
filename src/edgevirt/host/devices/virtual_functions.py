"""How a network card treats a virtual function of its: the MAC address and VLAN that the one who
has it cannot change. Said to the card's own interface, by rtnetlink."""

from __future__ import annotations

import errno
from typing import Any, Final

from msgspec.structs import replace

from edgevirt.host.devices.protocol import DeviceError
from edgevirt.host.netlink import IPRoute, NetlinkError
from edgevirt.model.sriov import VirtualFunction

_WITH_FUNCTIONS: Final = 1
"""RTEXT_FILTER_VF: without it the kernel leaves them out."""
_REFUSALS: Final = {
    errno.EOPNOTSUPP: "its driver does not have that",
    errno.EINVAL: "its driver refuses it",
    errno.ENODEV: "it is gone",
}


def read(interface: str, card: str, index: int) -> VirtualFunction:
    """Blocks. Raises DeviceError."""
    what = f"cannot look at virtual function {index} of {interface}"
    try:
        with IPRoute() as netlink:
            [link] = netlink.link("get", ifname=interface, ext_mask=_WITH_FUNCTIONS)
    except NetlinkError as error:
        raise DeviceError(f"{what}: {_REFUSALS.get(error.code, str(error))}") from error
    listed = link.get_attr("IFLA_VFINFO_LIST")
    for info in listed.get_attrs("IFLA_VF_INFO") if listed is not None else ():
        mac, vlan = info.get_attr("IFLA_VF_MAC"), info.get_attr("IFLA_VF_VLAN")
        if mac is not None and mac["vf"] == index:
            return VirtualFunction(
                card=card, index=index, mac=mac["mac"], vlan=vlan["vlan"] if vlan else 0
            )
    raise DeviceError(f"{what}: there is none")


def configure(interface: str, function: VirtualFunction) -> None:
    """One of a driver that knows of neither can be had without. Blocks. Raises DeviceError."""
    try:
        has = read(interface, function.card, function.index)
    except DeviceError:
        if function.mac or function.vlan:
            raise
        has = function
    wanted = replace(function, mac=function.mac.lower() or has.mac)
    what = f"cannot set virtual function {function.index} of {interface}"
    try:
        with IPRoute() as netlink:
            [index] = netlink.link_lookup(ifname=interface)
            netlink.link("set", index=index, state="up")
            for word, attribute in changes(has, wanted):
                what = f"{what.partition(' to ')[0]} to {word}"
                netlink.link("set", index=index, IFLA_VFINFO_LIST=attribute)
    except (NetlinkError, ValueError) as error:
        code = error.code if isinstance(error, NetlinkError) else errno.ENODEV
        raise DeviceError(f"{what}: {_REFUSALS.get(code, str(error))}") from error


def changes(has: VirtualFunction, wanted: VirtualFunction) -> list[tuple[str, dict[str, Any]]]:
    """What to say, in words and in the kernel's: each alone, so that a refusal is of one."""
    found = []
    at = wanted.index
    if has.mac.lower() != wanted.mac.lower():
        said = ("IFLA_VF_MAC", {"vf": at, "mac": wanted.mac})
        found.append((f"MAC address {wanted.mac}", _list(said)))
    if has.vlan != wanted.vlan:
        said = ("IFLA_VF_VLAN", {"vf": at, "vlan": wanted.vlan, "qos": 0})
        found.append((f"VLAN {wanted.vlan}" if wanted.vlan else "no VLAN", _list(said)))
    return found


def _list(said: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"attrs": [("IFLA_VF_INFO", {"attrs": [said]})]}
