"""Addresses and routes of the machine's ports, by netlink. Blocking; one call at a time."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Interface
from typing import Any, Final, TypeAlias

import msgspec

from edgevirt.host.netlink import IPRoute, NetlinkError

_Message: TypeAlias = Any
"""pyroute2 has no types; `index`, `flags` and `get_attr` are what is used."""

_ETHERNET: Final = re.compile(r"(eth|en)[a-z0-9]+")
"""As the kernel and udev name Ethernet interfaces; bridges and apps' ends have other names."""
_UP: Final = 1
_GLOBAL: Final = 0
_LINK_SCOPE: Final = 253
_MAIN_TABLE: Final = 254


class Interface(msgspec.Struct, frozen=True):
    """An interface as it is. `up`: a cable with somebody at its other end.

    `addresses`: with their prefix, IPv4 first. `routers`: of default routes through it.
    """

    name: str
    mac: str = ""
    up: bool = False
    mtu: int = 0
    addresses: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    domain: str = ""


class Placing(msgspec.Struct, frozen=True):
    """`keep`: its address and route may stay as they are, whatever they are."""

    interface: str
    address: str = ""
    gateway: str = ""
    metric: int = 0
    mtu: int = 0
    up: bool = True
    keep: bool = False


def interfaces() -> dict[str, Interface]:
    """Every Ethernet interface, by name."""
    with IPRoute() as netlink:
        links = {link["index"]: link for link in netlink.get_links() if _is_ethernet(link)}
        addresses: dict[int, list[str]] = {index: [] for index in links}
        for family in (socket.AF_INET, socket.AF_INET6):
            for item in netlink.get_addr(family=family):
                if item["index"] in links and item["scope"] == _GLOBAL:
                    address = f"{_own(item)}/{item['prefixlen']}"
                    addresses[item["index"]].append(address)
        routers: dict[int, list[str]] = {index: [] for index in links}
        for route in netlink.get_default_routes(family=socket.AF_INET):
            gateway = route.get_attr("RTA_GATEWAY")
            if gateway and route.get_attr("RTA_OIF") in links:
                routers[route.get_attr("RTA_OIF")].append(str(gateway))
        return {
            _name(link): Interface(
                name=_name(link),
                mac=str(link.get_attr("IFLA_ADDRESS") or ""),
                up=bool(link["flags"] & _UP and link.get_attr("IFLA_CARRIER")),
                mtu=int(link.get_attr("IFLA_MTU") or 0),
                addresses=tuple(addresses[index]),
                routers=tuple(routers[index]),
            )
            for index, link in links.items()
        }


def switch_on(names: Iterable[str]) -> None:
    with IPRoute() as netlink:
        for name in names:
            for link in netlink.get_links(ifname=name):
                if not link["flags"] & _UP:
                    netlink.link("set", index=link["index"], state="up")


def place(wanted: Iterable[Placing]) -> None:
    """What already matches is not touched; an interface that isn't there is passed over."""
    with IPRoute() as netlink:
        links = {_name(link): link for link in netlink.get_links() if _is_ethernet(link)}
        for placing in wanted:
            link = links.get(placing.interface)
            if link is not None:
                _place(netlink, link, placing)


def _place(netlink: IPRoute, link: _Message, placing: Placing) -> None:
    index = link["index"]
    if placing.mtu and link.get_attr("IFLA_MTU") != placing.mtu:
        netlink.link("set", index=index, mtu=placing.mtu)
    if placing.up and not link["flags"] & _UP:
        netlink.link("set", index=index, state="up")
    if placing.keep:
        return
    address = IPv4Interface(placing.address) if placing.address else None
    _ensure_address(netlink, index, address)
    _ensure_route(netlink, index, address, placing)


def _ensure_address(netlink: IPRoute, index: int, wanted: IPv4Interface | None) -> None:
    found = False
    for item in netlink.get_addr(family=socket.AF_INET, index=index):
        present = IPv4Interface(f"{_own(item)}/{item['prefixlen']}")
        if present == wanted:
            found = True
        else:
            netlink.addr("del", index=index, address=str(present.ip), prefixlen=item["prefixlen"])
    if wanted is not None and not found:
        prefix = wanted.network.prefixlen
        netlink.addr("add", index=index, address=str(wanted.ip), prefixlen=prefix)


def _ensure_route(
    netlink: IPRoute, index: int, address: IPv4Interface | None, placing: Placing
) -> None:
    """One default route through the interface; a router outside of its network gets one too."""
    wanted = (placing.gateway, placing.metric) if placing.gateway and address else None
    found = False
    for route in netlink.get_default_routes(family=socket.AF_INET, table=_MAIN_TABLE):
        if route.get_attr("RTA_OIF") != index:
            continue
        gateway = str(route.get_attr("RTA_GATEWAY") or "")
        metric = int(route.get_attr("RTA_PRIORITY") or 0)
        if (gateway, metric) == wanted:
            found = True
        else:
            arguments = {"gateway": gateway} if gateway else {}
            netlink.route("del", dst="default", oif=index, priority=metric, **arguments)
    if wanted is None or found or address is None:
        return
    gateway, metric = wanted
    if IPv4Interface(gateway).ip not in address.network:
        try:
            netlink.route("add", dst=f"{gateway}/32", oif=index, scope=_LINK_SCOPE)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
    netlink.route("add", dst="default", gateway=gateway, oif=index, priority=metric)


def _is_ethernet(link: _Message) -> bool:
    information = link.get_attr("IFLA_LINKINFO")
    kind = information.get_attr("IFLA_INFO_KIND") if information is not None else None
    return bool(_ETHERNET.fullmatch(_name(link))) and kind not in {"bridge", "vlan", "bond"}


def _own(item: _Message) -> str:
    """Ours, not the other end's of a point-to-point link."""
    return str(item.get_attr("IFA_LOCAL") or item.get_attr("IFA_ADDRESS"))


def _name(link: _Message) -> str:
    return str(link.get_attr("IFLA_IFNAME"))
