"""A guest's side: its network namespace, the pairs and taps that lead out of it into bridges, and
its default route.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from edgevirt.host.net.filter import VIF_PREFIX
from edgevirt.host.net.link import (
    AF_INET,
    UP,
    Message,
    ensure_addresses,
    ensure_attributes,
    find,
    name_of,
    required,
    set_sysctl,
)
from edgevirt.host.net.spec import LinkSpec
from edgevirt.host.netlink import IPRoute, NetlinkError
from edgevirt.host.rights import namespace

_LOOPBACK = 1


class Guest:
    """A guest's network namespace, open. Its netlink socket is of that namespace, wherever the
    thread is."""

    def __init__(self, path: Path) -> None:
        self.namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with namespace.inside(self.namespace):
                self.netlink = IPRoute()
        except BaseException:
            os.close(self.namespace)
            raise

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *error: object) -> None:
        self.netlink.close()
        os.close(self.namespace)

    def keep_only(self, wanted: set[str]) -> None:
        """Of the interfaces that lead out; the end of a pair takes the other along. Loopback up."""
        for link in self.netlink.get_links():
            if link["index"] == _LOOPBACK:
                if not link["flags"] & UP:
                    self.netlink.link("set", index=_LOOPBACK, state="up")
            elif link.get_attr("IFLA_LINK") is not None and name_of(link) not in wanted:
                self.netlink.link("del", index=link["index"])


def ensure_pair(netlink: IPRoute, guest: Guest, owner: str, spec: LinkSpec) -> None:
    """One veth pair: its end here in the bridge, isolated; its other end inside, addressed."""
    bridge = required(netlink, spec.bridge)
    mtu = int(bridge.get_attr("IFLA_MTU"))
    outer = find(netlink, spec.host_name)
    inner = find(guest.netlink, spec.name)
    if outer is not None and not (inner is not None and _are_pair(outer, inner, owner)):
        netlink.link("del", index=outer["index"])
        outer = None
    if outer is None or inner is None:
        outer = _add_pair(netlink, guest, owner, spec)
        inner = required(guest.netlink, spec.name)
    _join(netlink, outer, bridge["index"])
    ensure_addresses(guest.netlink, inner["index"], {(spec.ip, spec.prefix)})
    ensure_attributes(guest.netlink, inner, mac=spec.mac, mtu=mtu)
    ensure_attributes(netlink, outer, mac=str(outer.get_attr("IFLA_ADDRESS")), mtu=mtu)
    _forget_predecessor(netlink, bridge["index"], spec)


def _are_pair(outer: Message, inner: Message, owner: str) -> bool:
    return bool(
        outer.get_attr("IFLA_IFALIAS") == owner
        and inner.get_attr("IFLA_LINK") == outer["index"]
        and outer.get_attr("IFLA_LINK") == inner["index"]
    )


def _add_pair(netlink: IPRoute, guest: Guest, owner: str, spec: LinkSpec) -> Message:
    stale = find(guest.netlink, spec.name)
    if stale is not None:
        guest.netlink.link("del", index=stale["index"])
    peer = {"ifname": spec.name, "address": spec.mac, "net_ns_fd": guest.namespace}
    netlink.link("add", ifname=spec.host_name, kind="veth", peer=peer)
    set_sysctl(f"ipv6/conf/{spec.host_name}/disable_ipv6", "1")
    outer = required(netlink, spec.host_name)
    netlink.link("set", index=outer["index"], ifalias=owner)
    return required(netlink, spec.host_name)


def ensure_tap(netlink: IPRoute, owner: str, spec: LinkSpec) -> None:
    """A tap in the bridge, isolated, that stays when the program that has it open ends."""
    bridge = required(netlink, spec.bridge)
    tap = find(netlink, spec.host_name)
    if tap is not None and not _is_tap_of(tap, owner):
        netlink.link("del", index=tap["index"])
        tap = None
    if tap is None:
        netlink.link("add", ifname=spec.host_name, kind="tuntap", mode="tap")
        set_sysctl(f"ipv6/conf/{spec.host_name}/disable_ipv6", "1")
        tap = required(netlink, spec.host_name)
        netlink.link("set", index=tap["index"], ifalias=owner)
    _join(netlink, tap, bridge["index"])
    mtu = int(bridge.get_attr("IFLA_MTU"))
    ensure_attributes(netlink, tap, mac=str(tap.get_attr("IFLA_ADDRESS")), mtu=mtu)
    _forget_predecessor(netlink, bridge["index"], spec)


def _join(netlink: IPRoute, link: Message, bridge: int) -> None:
    """Guests reach one another through the node alone, if at all."""
    if link.get_attr("IFLA_MASTER") != bridge:
        netlink.link("set", index=link["index"], master=bridge)
        netlink.brport("set", index=link["index"], isolated=1)


def _is_tap_of(link: Message, owner: str) -> bool:
    information = link.get_attr("IFLA_LINKINFO")
    kind = information.get_attr("IFLA_INFO_KIND") if information is not None else ""
    return bool(kind == "tun" and link.get_attr("IFLA_IFALIAS") == owner)


def _forget_predecessor(netlink: IPRoute, bridge: int, spec: LinkSpec) -> None:
    """The kernel would look for the address at whoever had it before, for up to a minute."""
    for known in netlink.get_neighbours(family=AF_INET, ifindex=bridge):
        if known.get_attr("NDA_DST") == spec.ip and known.get_attr("NDA_LLADDR") != spec.mac:
            with contextlib.suppress(NetlinkError):  # it was forgotten meanwhile
                netlink.neigh("del", dst=spec.ip, ifindex=bridge)


def ensure_default_route(netlink: IPRoute, links: Iterable[LinkSpec]) -> None:
    wanted = {link.gateway for link in list(links)[:1] if link.default_route}
    present = {
        str(route.get_attr("RTA_GATEWAY"))
        for route in netlink.get_default_routes(family=AF_INET)
        if route.get_attr("RTA_GATEWAY") is not None
    }
    for gateway in present - wanted:
        netlink.route("del", dst="default", gateway=gateway)
    for gateway in wanted - present:
        netlink.route("add", dst="default", gateway=gateway)


def vifs_of(netlink: IPRoute, guest: str) -> set[str]:
    return _links_of(netlink, guest, "veth") | taps_of(netlink, guest)


def taps_of(netlink: IPRoute, guest: str) -> set[str]:
    return _links_of(netlink, guest, "tun")


def _links_of(netlink: IPRoute, guest: str, kind: str) -> set[str]:
    return {
        name_of(link)
        for link in netlink.get_links(kind=kind)
        if name_of(link).startswith(VIF_PREFIX) and link.get_attr("IFLA_IFALIAS") == guest
    }
