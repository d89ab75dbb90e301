"""Bridges, and guests' namespaces with their interfaces, by netlink.

Everything that is made bears its owner as the interface's alias, so that a restarted service finds
what is there and takes it over as it is: what already matches is not touched. Blocking; one call
at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, TypeAlias

from edgevirt.host.net.filter import VIF_PREFIX
from edgevirt.host.net.spec import BridgeFacts, BridgeSpec, GuestSpec, LinkCounters, LinkSpec
from edgevirt.host.netlink import IPRoute, NetlinkError
from edgevirt.host.rights import namespace

_Message: TypeAlias = Any
"""pyroute2 has no types; `index`, `flags` and `get_attr` are what is used."""

_UP = 1
_LOOPBACK = 1
_DEFAULT_MTU = 1500
_AF_INET = 2
_BRIDGE_NAME = re.compile(r"bn[0-9]+")


class LinkError(Exception):
    """Part of a sentence: why a link cannot be made."""


class Links:
    """`namespaces`: where guests' network namespaces are kept, by guest id."""

    def __init__(self, namespaces: Path) -> None:
        self._namespaces = namespaces

    def namespace_of(self, guest: str) -> Path:
        """Raises ValueError when `guest` is not the name of a file."""
        if not guest or guest.startswith(".") or "/" in guest:
            raise ValueError(f"{guest!r} is not an id")
        return self._namespaces / guest

    def prepare(self) -> None:
        """Once: makes the network namespace a router of guests. Idempotent.

        Redirects would teach guests to go around the router; bridged frames that pass the IP
        filter would pass it twice.
        """
        self._namespaces.mkdir(parents=True, exist_ok=True)
        _sysctl("ipv4/ip_forward", "1")
        _sysctl("ipv4/conf/all/send_redirects", "0")
        for name in ("iptables", "ip6tables", "arptables"):
            _sysctl(f"bridge/bridge-nf-call-{name}", "0")

    def bridges(self) -> dict[str, str]:
        """Name by owner; a bridge that no one claims is its own owner."""
        with IPRoute() as netlink:
            return {
                link.get_attr("IFLA_IFALIAS") or _name(link): _name(link)
                for link in netlink.get_links(kind="bridge")
                if _BRIDGE_NAME.fullmatch(_name(link))
            }

    def ensure_bridge(self, spec: BridgeSpec) -> BridgeFacts:
        """LinkError when the node has other addresses in that subnet: routes would collide."""
        with IPRoute() as netlink:
            _check_subnet(netlink, spec)
            link = _find(netlink, spec.name)
            if link is not None and link.get_attr("IFLA_IFALIAS") != spec.owner:
                netlink.link("del", index=link["index"])
                link = None
            if link is None:
                link = _add_bridge(netlink, spec)
            mtu = _bridge_mtu(netlink, spec)
            index = link["index"]
            _ensure_attributes(netlink, link, mac=spec.mac, mtu=mtu)
            prefix = IPv4Network(spec.subnet).prefixlen
            _ensure_addresses(netlink, index, {(spec.gateway, prefix)})
            return BridgeFacts(mac=spec.mac, mtu=mtu)

    def remove_bridge(self, owner: str) -> None:
        """Also when there is none."""
        name = self.bridges().get(owner)
        if name is not None:
            with IPRoute() as netlink:
                _delete(netlink, name)

    def guests(self) -> set[str]:
        """Ids of whom anything is there."""
        kept = {entry.name for entry in self._namespaces.iterdir()}
        with IPRoute() as netlink:
            return kept | {
                link.get_attr("IFLA_IFALIAS") or _name(link)
                for kind in ("veth", "tun")
                for link in netlink.get_links(kind=kind)
                if _name(link).startswith(VIF_PREFIX)
            }

    def ensure_guest(self, spec: GuestSpec) -> None:
        """FileNotFoundError when a bridge isn't there (yet)."""
        path = self.namespace_of(spec.id)
        if not namespace.is_network_namespace(path):
            namespace.drop_network_namespace(path)
            namespace.keep_network_namespace(path)
        with _Guest(path) as guest, IPRoute() as netlink:
            inside = [link for link in spec.links if not link.tap]
            guest.keep_only({link.name for link in inside})
            for link in inside:
                _ensure_link(netlink, guest, spec.id, link)
            _ensure_default_route(guest.netlink, inside)
            taps = [link for link in spec.links if link.tap]
            for name in _taps_of(netlink, spec.id) - {link.host_name for link in taps}:
                _delete(netlink, name)
            for link in taps:
                _ensure_tap(netlink, spec.id, link)

    def remove_guest(self, guest: str) -> None:
        """Also when there is none. Interfaces vanish at once, even while a process is within."""
        path = self.namespace_of(guest)
        if namespace.is_network_namespace(path):
            with _Guest(path) as inner, IPRoute() as netlink:
                inner.keep_only(set())
                for name in _taps_of(netlink, guest):
                    _delete(netlink, name)
        elif guest in self.guests():
            with IPRoute() as netlink:
                for name in _vifs_of(netlink, guest):
                    _delete(netlink, name)
        namespace.drop_network_namespace(path)

    def counters(self) -> dict[str, LinkCounters]:
        """By interface name, for all of this network namespace."""
        with IPRoute() as netlink:
            return {_name(link): _counters(link) for link in netlink.get_links()}


def _find(netlink: IPRoute, name: str) -> _Message | None:
    try:
        return netlink.link("get", ifname=name)[0]
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def _required(netlink: IPRoute, name: str) -> _Message:
    link = _find(netlink, name)
    if link is None:
        raise FileNotFoundError(errno.ENOENT, f"there is no interface {name}")
    return link


def _delete(netlink: IPRoute, name: str) -> None:
    link = _find(netlink, name)
    try:
        if link is not None:
            netlink.link("del", index=link["index"])
    except NetlinkError as error:
        if error.code != errno.ENODEV:  # its other end just went with its namespace
            raise


def _name(link: _Message) -> str:
    return str(link.get_attr("IFLA_IFNAME"))


def _add_bridge(netlink: IPRoute, spec: BridgeSpec) -> _Message:
    netlink.link("add", ifname=spec.name, kind="bridge", address=spec.mac, br_mcast_snooping=0)
    _sysctl(f"ipv4/conf/{spec.name}/send_redirects", "0")
    _sysctl(f"ipv4/conf/{spec.name}/proxy_arp_pvlan", "1")
    _sysctl(f"ipv6/conf/{spec.name}/disable_ipv6", "1")
    link = _required(netlink, spec.name)
    netlink.link("set", index=link["index"], ifalias=spec.owner)
    return _required(netlink, spec.name)


def _check_subnet(netlink: IPRoute, spec: BridgeSpec) -> None:
    subnet = IPv4Network(spec.subnet)
    for address in netlink.get_addr(family=_AF_INET):
        name = address.get_attr("IFA_LABEL")
        place = f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
        if not _BRIDGE_NAME.fullmatch(name or "") and subnet.overlaps(IPv4Interface(place).network):
            raise LinkError(f"its subnet {subnet} overlaps {place} of {name}")


def _bridge_mtu(netlink: IPRoute, spec: BridgeSpec) -> int:
    uplink = _find(netlink, spec.uplink) if spec.uplink else None
    most = _DEFAULT_MTU if uplink is None else int(uplink.get_attr("IFLA_MTU"))
    return min(spec.mtu or most, most)


def _ensure_attributes(netlink: IPRoute, link: _Message, *, mac: str, mtu: int) -> None:
    changes: dict[str, object] = {}
    if link.get_attr("IFLA_ADDRESS") != mac:
        changes["address"] = mac
    if link.get_attr("IFLA_MTU") != mtu:
        changes["mtu"] = mtu
    if not link["flags"] & _UP:
        changes["state"] = "up"
    if changes:
        netlink.link("set", index=link["index"], **changes)


def _ensure_addresses(netlink: IPRoute, index: int, wanted: set[tuple[str, int]]) -> None:
    present = {
        (str(address.get_attr("IFA_ADDRESS")), int(address["prefixlen"]))
        for address in netlink.get_addr(family=_AF_INET, index=index)
    }
    for ip, prefix in present - wanted:
        netlink.addr("del", index=index, address=ip, prefixlen=prefix)
    for ip, prefix in wanted - present:
        netlink.addr("add", index=index, address=ip, prefixlen=prefix)


def _vifs_of(netlink: IPRoute, guest: str) -> set[str]:
    return _links_of(netlink, guest, "veth") | _taps_of(netlink, guest)


def _taps_of(netlink: IPRoute, guest: str) -> set[str]:
    return _links_of(netlink, guest, "tun")


def _links_of(netlink: IPRoute, guest: str, kind: str) -> set[str]:
    return {
        _name(link)
        for link in netlink.get_links(kind=kind)
        if _name(link).startswith(VIF_PREFIX) and link.get_attr("IFLA_IFALIAS") == guest
    }


class _Guest:
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

    def __enter__(self) -> _Guest:
        return self

    def __exit__(self, *error: object) -> None:
        self.netlink.close()
        os.close(self.namespace)

    def keep_only(self, wanted: set[str]) -> None:
        """Of the interfaces that lead out; the end of a pair takes the other along. Loopback up."""
        for link in self.netlink.get_links():
            if link["index"] == _LOOPBACK:
                if not link["flags"] & _UP:
                    self.netlink.link("set", index=_LOOPBACK, state="up")
            elif link.get_attr("IFLA_LINK") is not None and _name(link) not in wanted:
                self.netlink.link("del", index=link["index"])


def _ensure_link(netlink: IPRoute, guest: _Guest, owner: str, spec: LinkSpec) -> None:
    """One veth pair: its end here in the bridge, isolated; its other end inside, addressed."""
    bridge = _required(netlink, spec.bridge)
    mtu = int(bridge.get_attr("IFLA_MTU"))
    outer = _find(netlink, spec.host_name)
    inner = _find(guest.netlink, spec.name)
    if outer is not None and not (inner is not None and _are_pair(outer, inner, owner)):
        netlink.link("del", index=outer["index"])
        outer = None
    if outer is None or inner is None:
        outer = _add_pair(netlink, guest, owner, spec)
        inner = _required(guest.netlink, spec.name)
    if outer.get_attr("IFLA_MASTER") != bridge["index"]:
        netlink.link("set", index=outer["index"], master=bridge["index"])
        netlink.brport("set", index=outer["index"], isolated=1)
    _ensure_addresses(guest.netlink, inner["index"], {(spec.ip, spec.prefix)})
    _ensure_attributes(guest.netlink, inner, mac=spec.mac, mtu=mtu)
    _ensure_attributes(netlink, outer, mac=str(outer.get_attr("IFLA_ADDRESS")), mtu=mtu)
    _forget_predecessor(netlink, bridge["index"], spec)


def _ensure_tap(netlink: IPRoute, owner: str, spec: LinkSpec) -> None:
    """A tap in the bridge, isolated, that stays when the program that has it open ends."""
    bridge = _required(netlink, spec.bridge)
    tap = _find(netlink, spec.host_name)
    if tap is not None and not _is_tap_of(tap, owner):
        netlink.link("del", index=tap["index"])
        tap = None
    if tap is None:
        netlink.link("add", ifname=spec.host_name, kind="tuntap", mode="tap")
        _sysctl(f"ipv6/conf/{spec.host_name}/disable_ipv6", "1")
        tap = _required(netlink, spec.host_name)
        netlink.link("set", index=tap["index"], ifalias=owner)
    if tap.get_attr("IFLA_MASTER") != bridge["index"]:
        netlink.link("set", index=tap["index"], master=bridge["index"])
        netlink.brport("set", index=tap["index"], isolated=1)
    mtu = int(bridge.get_attr("IFLA_MTU"))
    _ensure_attributes(netlink, tap, mac=str(tap.get_attr("IFLA_ADDRESS")), mtu=mtu)
    _forget_predecessor(netlink, bridge["index"], spec)


def _is_tap_of(link: _Message, owner: str) -> bool:
    information = link.get_attr("IFLA_LINKINFO")
    kind = information.get_attr("IFLA_INFO_KIND") if information is not None else ""
    return bool(kind == "tun" and link.get_attr("IFLA_IFALIAS") == owner)


def _forget_predecessor(netlink: IPRoute, bridge: int, spec: LinkSpec) -> None:
    """The kernel would look for the address at whoever had it before, for up to a minute."""
    for known in netlink.get_neighbours(family=_AF_INET, ifindex=bridge):
        if known.get_attr("NDA_DST") == spec.ip and known.get_attr("NDA_LLADDR") != spec.mac:
            with contextlib.suppress(NetlinkError):  # it was forgotten meanwhile
                netlink.neigh("del", dst=spec.ip, ifindex=bridge)


def _are_pair(outer: _Message, inner: _Message, owner: str) -> bool:
    return bool(
        outer.get_attr("IFLA_IFALIAS") == owner
        and inner.get_attr("IFLA_LINK") == outer["index"]
        and outer.get_attr("IFLA_LINK") == inner["index"]
    )


def _add_pair(netlink: IPRoute, guest: _Guest, owner: str, spec: LinkSpec) -> _Message:
    stale = _find(guest.netlink, spec.name)
    if stale is not None:
        guest.netlink.link("del", index=stale["index"])
    peer = {"ifname": spec.name, "address": spec.mac, "net_ns_fd": guest.namespace}
    netlink.link("add", ifname=spec.host_name, kind="veth", peer=peer)
    _sysctl(f"ipv6/conf/{spec.host_name}/disable_ipv6", "1")
    outer = _required(netlink, spec.host_name)
    netlink.link("set", index=outer["index"], ifalias=owner)
    return _required(netlink, spec.host_name)


def _ensure_default_route(netlink: IPRoute, links: Iterable[LinkSpec]) -> None:
    wanted = {link.gateway for link in list(links)[:1] if link.default_route}
    present = {
        str(route.get_attr("RTA_GATEWAY"))
        for route in netlink.get_default_routes(family=_AF_INET)
        if route.get_attr("RTA_GATEWAY") is not None
    }
    for gateway in present - wanted:
        netlink.route("del", dst="default", gateway=gateway)
    for gateway in wanted - present:
        netlink.route("add", dst="default", gateway=gateway)


def _counters(link: _Message) -> LinkCounters:
    stats = link.get_attr("IFLA_STATS64") or {}
    return LinkCounters(
        rx_bytes=stats.get("rx_bytes", 0),
        tx_bytes=stats.get("tx_bytes", 0),
        rx_packets=stats.get("rx_packets", 0),
        tx_packets=stats.get("tx_packets", 0),
        rx_drops=stats.get("rx_dropped", 0),
        tx_drops=stats.get("tx_dropped", 0),
    )


def _sysctl(name: str, value: str) -> None:
    """Of the present network namespace, where the machine has it."""
    path = Path("/proc/sys/net", name)
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)
