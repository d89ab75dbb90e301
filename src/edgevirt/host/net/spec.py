"""What an adapter of the network is told to make. Addresses are canonical text, checked before."""

from __future__ import annotations

from edgevirt.model.base import Noun
from edgevirt.model.network import AclAction


class BridgeSpec(Noun, frozen=True, kw_only=True):
    """The bridge of one network instance, with the gateway's address."""

    name: str
    """`bn<N>`."""
    owner: str
    """Who it is made for: found again by this."""
    mac: str
    subnet: str
    gateway: str
    uplink: str = ""
    """Interface towards the outside; empty: air-gapped."""
    mtu: int = 0
    """0: the uplink's. Never more than the uplink's."""


class BridgeFacts(Noun, frozen=True, kw_only=True):
    mac: str
    mtu: int


class LinkSpec(Noun, frozen=True, kw_only=True):
    """One interface of a guest."""

    name: str
    """In the guest: `eth<i>`."""
    host_name: str
    """`nbu<i>x<app number>`."""
    bridge: str
    mac: str
    ip: str
    prefix: int
    gateway: str
    default_route: bool = True
    tap: bool = False
    """`host_name` is a tap that the guest's program opens; nothing is in its namespace."""


class GuestSpec(Noun, frozen=True, kw_only=True):
    """A guest's network namespace and all that is in it."""

    id: str
    links: tuple[LinkSpec, ...]


class Rule(Noun, frozen=True, kw_only=True):
    """One access rule, in the guest's view. Empty or 0: any."""

    action: AclAction
    """ALLOW, DROP or PORTMAP."""
    remote: str = ""
    """Network of the other side, `a.b.c.d/n`."""
    protocol: int = 0
    """IP protocol number."""
    local_port: int = 0
    remote_port: int = 0
    node_port: int = 0
    """For PORTMAP: the port of the uplink's address that leads to `local_port`."""


class Zone(Noun, frozen=True, kw_only=True):
    """A network instance as the packet filter sees it. Guests reach their own zone and its uplink,
    no other zone."""

    bridge: str
    subnet: str
    gateway: str
    uplink: str = ""


class FilterLink(Noun, frozen=True, kw_only=True):
    """A guest's interface as the packet filter sees it."""

    host_name: str
    bridge: str
    mac: str
    ip: str
    rules: tuple[Rule, ...] = ()


class Filter(Noun, frozen=True, kw_only=True):
    """All that the packet filter enforces. What it does not name gets nothing through."""

    zones: tuple[Zone, ...] = ()
    links: tuple[FilterLink, ...] = ()


class Lease(Noun, frozen=True, kw_only=True):
    """Whoever has `mac` is given `ip`."""

    mac: str
    ip: str
    host: str
    """One DNS label."""


class NameServerSpec(Noun, frozen=True, kw_only=True):
    """DHCP and DNS on one bridge."""

    bridge: str
    subnet: str
    gateway: str
    routed: bool
    """False: air-gapped, so neither a default route nor upstream name servers."""
    domain: str = ""
    mtu: int = 1500
    ntp: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    """Empty and `routed`: those of the machine's resolv.conf."""
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(name, addresses): answered here."""
    leases: tuple[Lease, ...] = ()


class Listener(Noun, frozen=True, kw_only=True):
    """A socket of the node that takes what comes to `port` of an address of it."""

    protocol: int
    address: str
    port: int


class LinkCounters(Noun, frozen=True, kw_only=True):
    """Cumulative, from the machine's side of the interface."""

    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    tx_packets: int = 0
    rx_drops: int = 0
    tx_drops: int = 0
