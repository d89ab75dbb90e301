"""Bridges, and guests' namespaces with their interfaces, by netlink.

Everything that is made bears its owner as the interface's alias, so that a restarted service finds
what is there and takes it over as it is: what already matches is not touched. Blocking; one call
at a time.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from edgevirt.host.net.filter import VIF_PREFIX
from edgevirt.host.net.guest import (
    Guest,
    ensure_default_route,
    ensure_pair,
    ensure_tap,
    taps_of,
    vifs_of,
)
from edgevirt.host.net.link import (
    AF_INET,
    Message,
    delete,
    ensure_addresses,
    ensure_attributes,
    find,
    name_of,
    required,
    set_sysctl,
)
from edgevirt.host.net.spec import BridgeFacts, BridgeSpec, GuestSpec, LinkCounters
from edgevirt.host.netlink import IPRoute
from edgevirt.host.rights import namespace

_DEFAULT_MTU = 1500
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
        set_sysctl("ipv4/ip_forward", "1")
        set_sysctl("ipv4/conf/all/send_redirects", "0")
        for name in ("iptables", "ip6tables", "arptables"):
            set_sysctl(f"bridge/bridge-nf-call-{name}", "0")

    def bridges(self) -> dict[str, str]:
        """Name by owner; a bridge that no one claims is its own owner."""
        with IPRoute() as netlink:
            return {
                link.get_attr("IFLA_IFALIAS") or name_of(link): name_of(link)
                for link in netlink.get_links(kind="bridge")
                if _BRIDGE_NAME.fullmatch(name_of(link))
            }

    def ensure_bridge(self, spec: BridgeSpec) -> BridgeFacts:
        """LinkError when the node has other addresses in that subnet: routes would collide."""
        with IPRoute() as netlink:
            _check_subnet(netlink, spec)
            link = find(netlink, spec.name)
            if link is not None and link.get_attr("IFLA_IFALIAS") != spec.owner:
                netlink.link("del", index=link["index"])
                link = None
            if link is None:
                link = _add_bridge(netlink, spec)
            mtu = _bridge_mtu(netlink, spec)
            index = link["index"]
            ensure_attributes(netlink, link, mac=spec.mac, mtu=mtu)
            prefix = IPv4Network(spec.subnet).prefixlen
            ensure_addresses(netlink, index, {(spec.gateway, prefix)})
            return BridgeFacts(mac=spec.mac, mtu=mtu)

    def remove_bridge(self, owner: str) -> None:
        """Also when there is none."""
        name = self.bridges().get(owner)
        if name is not None:
            with IPRoute() as netlink:
                delete(netlink, name)

    def guests(self) -> set[str]:
        """Ids of whom anything is there."""
        kept = {entry.name for entry in self._namespaces.iterdir()}
        with IPRoute() as netlink:
            return kept | {
                link.get_attr("IFLA_IFALIAS") or name_of(link)
                for kind in ("veth", "tun")
                for link in netlink.get_links(kind=kind)
                if name_of(link).startswith(VIF_PREFIX)
            }

    def ensure_guest(self, spec: GuestSpec) -> None:
        """FileNotFoundError when a bridge isn't there (yet)."""
        path = self.namespace_of(spec.id)
        if not namespace.is_network_namespace(path):
            namespace.drop_network_namespace(path)
            namespace.keep_network_namespace(path)
        with Guest(path) as guest, IPRoute() as netlink:
            inside = [link for link in spec.links if not link.tap]
            guest.keep_only({link.name for link in inside})
            for link in inside:
                ensure_pair(netlink, guest, spec.id, link)
            ensure_default_route(guest.netlink, inside)
            taps = [link for link in spec.links if link.tap]
            for name in taps_of(netlink, spec.id) - {link.host_name for link in taps}:
                delete(netlink, name)
            for link in taps:
                ensure_tap(netlink, spec.id, link)

    def remove_guest(self, guest: str) -> None:
        """Also when there is none. Interfaces vanish at once, even while a process is within."""
        path = self.namespace_of(guest)
        if namespace.is_network_namespace(path):
            with Guest(path) as inner, IPRoute() as netlink:
                inner.keep_only(set())
                for name in taps_of(netlink, guest):
                    delete(netlink, name)
        elif guest in self.guests():
            with IPRoute() as netlink:
                for name in vifs_of(netlink, guest):
                    delete(netlink, name)
        namespace.drop_network_namespace(path)

    def counters(self) -> dict[str, LinkCounters]:
        """By interface name, for all of this network namespace."""
        with IPRoute() as netlink:
            return {name_of(link): _counters(link) for link in netlink.get_links()}


def _add_bridge(netlink: IPRoute, spec: BridgeSpec) -> Message:
    netlink.link("add", ifname=spec.name, kind="bridge", address=spec.mac, br_mcast_snooping=0)
    set_sysctl(f"ipv4/conf/{spec.name}/send_redirects", "0")
    set_sysctl(f"ipv4/conf/{spec.name}/proxy_arp_pvlan", "1")
    set_sysctl(f"ipv6/conf/{spec.name}/disable_ipv6", "1")
    link = required(netlink, spec.name)
    netlink.link("set", index=link["index"], ifalias=spec.owner)
    return required(netlink, spec.name)


def _check_subnet(netlink: IPRoute, spec: BridgeSpec) -> None:
    subnet = IPv4Network(spec.subnet)
    for address in netlink.get_addr(family=AF_INET):
        name = address.get_attr("IFA_LABEL")
        place = f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
        if not _BRIDGE_NAME.fullmatch(name or "") and subnet.overlaps(IPv4Interface(place).network):
            raise LinkError(f"its subnet {subnet} overlaps {place} of {name}")


def _bridge_mtu(netlink: IPRoute, spec: BridgeSpec) -> int:
    uplink = find(netlink, spec.uplink) if spec.uplink else None
    most = _DEFAULT_MTU if uplink is None else int(uplink.get_attr("IFLA_MTU"))
    return min(spec.mtu or most, most)


def _counters(link: Message) -> LinkCounters:
    stats = link.get_attr("IFLA_STATS64") or {}
    return LinkCounters(
        rx_bytes=stats.get("rx_bytes", 0),
        tx_bytes=stats.get("tx_bytes", 0),
        rx_packets=stats.get("rx_packets", 0),
        tx_packets=stats.get("tx_packets", 0),
        rx_drops=stats.get("rx_dropped", 0),
        tx_drops=stats.get("tx_dropped", 0),
    )
