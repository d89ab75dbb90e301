"""What guests may send and get, as one packet filter transaction. Pure.

How it works, and why so:

- Frames between two guests of a bridge are dropped in the bridge; the bridge answers ARP for all
  of its subnet, so that such traffic is routed. Thus one stateful layer decides on everything, and
  no kernel module that puts bridged frames through the IP filter is needed.
- In the bridge, a frame must bear the MAC and IP address that its interface was given. Above it,
  an IP address therefore is a guest.
- Rules are asked for every packet of a connection's original direction, and never for replies. So
  taking back a permission ends what runs under it, and what is still allowed isn't touched.
- Whatever is not named is dropped; so is everything before the first transaction knows a guest.

The order of statements is fixed by the input alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

from edgevirt.host.net.canonical import interface_name, mac_address
from edgevirt.host.net.nft import Count
from edgevirt.host.net.spec import Filter, FilterLink, Rule, Zone
from edgevirt.model.network import AclAction

TABLE = "edgevirt"
VIF_PREFIX = "nbu"
METADATA_SERVER = IPv4Address("169.254.169.254")
_PROTOCOLS_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
_ROUTER = f"inet {TABLE}"
_BRIDGE = f"bridge {TABLE}"


def ruleset(wanted: Filter, drops: Mapping[str, Count]) -> list[str]:
    """Statements that replace whatever stood before by `wanted`.

    `drops`: by host interface, what was dropped so far; the counters go on from there.
    Raises ValueError for what is not an address, a number or an interface name.
    """
    zones = sorted(wanted.zones, key=lambda zone: zone.bridge)
    links = sorted(wanted.links, key=lambda link: link.host_name)
    return [*_bridge_table(links), *_router_table(zones, links, drops)]


def _bridge_table(links: list[FilterLink]) -> Iterator[str]:
    """Nobody sends under another's address, and nobody reaches a neighbour directly."""
    yield from _replace(_BRIDGE)
    yield f"add set {_BRIDGE} macs {{ type ifname . ether_addr; }}"
    yield f"add set {_BRIDGE} addresses {{ type ifname . ipv4_addr; }}"
    yield from _elements(_BRIDGE, "macs", (f"{_vif(k)} . {mac_address(k.mac)}" for k in links))
    yield from _elements(_BRIDGE, "addresses", (f"{_vif(k)} . {_ip(k.ip)}" for k in links))
    arp = "iifname . arp saddr ether @macs"
    guard = f"add rule {_BRIDGE} prerouting"
    yield f"add chain {_BRIDGE} prerouting {{ type filter hook prerouting priority filter; }}"
    yield f'{guard} iifname != "{VIF_PREFIX}*" accept'
    yield f"{guard} iifname . ether saddr != @macs drop"
    yield f"{guard} {arp} iifname . arp saddr ip @addresses accept"
    yield f"{guard} {arp} arp saddr ip 0.0.0.0 accept"
    yield f"{guard} iifname . ip saddr @addresses accept"
    yield f"{guard} ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept"
    yield f"{guard} ether type ip6 meta l4proto ipv6-icmp accept"
    yield f"{guard} drop"
    forward = f'iifname "{VIF_PREFIX}*" oifname "{VIF_PREFIX}*" drop'
    yield f"add chain {_BRIDGE} forward {{ type filter hook forward priority filter; }}"
    yield f"add rule {_BRIDGE} forward {forward}"


def _router_table(
    zones: list[Zone], links: list[FilterLink], drops: Mapping[str, Count]
) -> Iterator[str]:
    yield from _replace(_ROUTER)
    yield from _sets(zones, links)
    for link in links:
        yield from _chains(link, drops.get(link.host_name, Count(0, 0)))
    yield from _dispatch(links)
    yield from _forward()
    yield from _input()
    yield from _translation(zones, links)


def _sets(zones: list[Zone], links: list[FilterLink]) -> Iterator[str]:
    """Who is where: bridges, the ways that packets may take, guests and gateways."""
    yield f"add set {_ROUTER} bridges {{ type ifname; }}"
    yield f"add set {_ROUTER} paths {{ type ifname . ifname; }}"
    yield f"add set {_ROUTER} guests {{ type ifname . ipv4_addr; }}"
    yield f"add set {_ROUTER} gateways {{ type ifname . ipv4_addr; }}"
    bridges = [_interface(zone.bridge) for zone in zones]
    paths = [f"{bridge} . {bridge}" for bridge in bridges]
    for zone in zones:
        if zone.uplink:
            bridge, uplink = _interface(zone.bridge), _interface(zone.uplink)
            paths += [f"{bridge} . {uplink}", f"{uplink} . {bridge}"]
    gateways = (f"{_interface(zone.bridge)} . {_ip(zone.gateway)}" for zone in zones)
    yield from _elements(_ROUTER, "bridges", bridges)
    yield from _elements(_ROUTER, "paths", sorted(paths))
    yield from _elements(_ROUTER, "guests", (_place(link) for link in links))
    yield from _elements(_ROUTER, "gateways", gateways)


def _chains(link: FilterLink, dropped: Count) -> Iterator[str]:
    """A guest's rules for what it opens and for what is opened to it; `return` means allowed."""
    vif = interface_name(link.host_name)
    refuse = f'counter name "{vif}" drop'
    verdict = {AclAction.ALLOW: "return", AclAction.PORTMAP: "return", AclAction.DROP: refuse}
    state = f"packets {int(dropped.packets)} bytes {int(dropped.bytes)}"
    yield f"add counter {_ROUTER} {vif} {{ {state} }}"
    for direction in ("out", "in"):
        yield f"add chain {_ROUTER} {direction}_{vif}"
        for rule in link.rules:
            match = _outgoing(rule) if direction == "out" else _incoming(rule)
            if match is not None:
                words = " ".join([*match, verdict[rule.action]])
                yield f"add rule {_ROUTER} {direction}_{vif} {words}"
        yield f"add rule {_ROUTER} {direction}_{vif} {refuse}"


def _outgoing(rule: Rule) -> list[str] | None:
    """What the guest opens; None when the rule says nothing about it."""
    if rule.action == AclAction.PORTMAP:
        return None
    return [*_remote(rule, "daddr"), *_ports(rule, local="sport", remote="dport")]


def _incoming(rule: Rule) -> list[str] | None:
    match = [*_remote(rule, "saddr"), *_ports(rule, local="dport", remote="sport")]
    if rule.action == AclAction.PORTMAP:
        match.append(f"ct status dnat ct original proto-dst {int(rule.node_port)}")
    return match


def _remote(rule: Rule, side: str) -> list[str]:
    if not rule.remote or IPv4Network(rule.remote).prefixlen == 0:
        return []
    return [f"ip {side} {IPv4Network(rule.remote)}"]


def _ports(rule: Rule, *, local: str, remote: str) -> list[str]:
    if not rule.protocol:
        return []
    name = _PROTOCOLS_WITH_PORTS.get(rule.protocol, "")
    words = [
        f"{name} {side} {int(port)}"
        for side, port in ((local, rule.local_port), (remote, rule.remote_port))
        if port
    ]
    if words and not name:
        raise ValueError(f"protocol {rule.protocol} has no ports")
    return words or [f"meta l4proto {int(rule.protocol)}"]


def _dispatch(links: list[FilterLink]) -> Iterator[str]:
    """From a guest's place to its chains, in one look-up however many guests there are."""
    for name, direction in (("leaving", "out"), ("entering", "in")):
        yield f"add map {_ROUTER} {name} {{ type ifname . ipv4_addr : verdict; }}"
        jumps = (f"{_place(k)} : jump {direction}_{k.host_name}" for k in links)
        yield from _elements(_ROUTER, name, jumps)
    yield f"add map {_ROUTER} blame {{ type ipv4_addr : counter; }}"
    blame = (f"{_ip(link.ip)} : {_vif(link)}" for link in links)
    yield from _elements(_ROUTER, "blame", blame)


def _forward() -> Iterator[str]:
    """The node routes for its guests alone; both sides' rules are asked when both are guests."""
    rule = f"add rule {_ROUTER} forward"
    hook = "type filter hook forward priority filter; policy drop;"
    yield f"add chain {_ROUTER} forward {{ {hook} }}"
    yield f"{rule} meta nfproto ipv6 drop"
    yield f"{rule} iifname . oifname != @paths counter name ip saddr map @blame drop"
    yield f"{rule} iifname . oifname != @paths drop"
    yield f"{rule} tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"
    yield f"{rule} ct state related accept"
    yield f"{rule} ct direction reply ct state established accept"
    yield f"{rule} ct state invalid drop"
    yield f"{rule} iifname @bridges iifname . ip saddr != @guests drop"
    yield f"{rule} oifname @bridges oifname . ip daddr != @guests drop"
    yield f"{rule} iifname . ip saddr vmap @leaving"
    yield f"{rule} oifname . ip daddr vmap @entering"
    yield f"{rule} accept"


def _input() -> Iterator[str]:
    """Of the node itself, a guest gets DHCP, names and metadata; the gateway's ping if allowed."""
    rule = f"add rule {_ROUTER} input"
    gateway = "iifname . ip daddr @gateways"
    yield f"add chain {_ROUTER} input {{ type filter hook input priority filter; }}"
    yield f"{rule} iifname != @bridges accept"
    yield f"{rule} meta nfproto ipv6 meta l4proto ipv6-icmp accept"
    yield f"{rule} meta nfproto ipv6 drop"
    yield f"{rule} udp sport 68 udp dport 67 accept"
    yield f"{rule} ct state related accept"
    yield f"{rule} ct direction reply ct state established accept"
    yield f"{rule} {gateway} udp dport 53 accept"
    yield f"{rule} {gateway} tcp dport 53 accept"
    yield f"{rule} ip daddr {METADATA_SERVER} tcp dport 80 accept"
    yield f"{rule} {gateway} icmp type echo-request iifname . ip saddr vmap @leaving"
    yield f"{rule} {gateway} icmp type echo-request accept"
    yield f"{rule} counter name ip saddr map @blame drop"
    yield f"{rule} drop"


def _translation(zones: list[Zone], links: list[FilterLink]) -> Iterator[str]:
    """Port maps on the uplinks' addresses; guests go out under the uplink's address."""
    yield f"add chain {_ROUTER} prerouting {{ type nat hook prerouting priority dstnat; }}"
    yield f"add chain {_ROUTER} postrouting {{ type nat hook postrouting priority srcnat; }}"
    uplinks = {zone.bridge: zone.uplink for zone in zones if zone.uplink}
    for link in links:
        for rule in link.rules:
            if rule.action == AclAction.PORTMAP and link.bridge in uplinks:
                yield _port_map(link, rule, uplinks[link.bridge])
    for zone in zones:
        if zone.uplink:
            source, way = IPv4Network(zone.subnet), _interface(zone.uplink)
            yield f"add rule {_ROUTER} postrouting ip saddr {source} oifname {way} masquerade"


def _port_map(link: FilterLink, rule: Rule, uplink: str) -> str:
    protocol = _PROTOCOLS_WITH_PORTS[rule.protocol]
    words = [
        f"add rule {_ROUTER} prerouting iifname {_interface(uplink)} fib daddr type local",
        *_remote(rule, "saddr"),
        *([f"{protocol} sport {int(rule.remote_port)}"] if rule.remote_port else []),
        f"{protocol} dport {int(rule.node_port)}",
        f"dnat ip to {_ip(link.ip)}:{int(rule.local_port)}",
    ]
    return " ".join(words)


def _replace(table: str) -> list[str]:
    return [f"add table {table}", f"delete table {table}", f"add table {table}"]


def _elements(table: str, name: str, elements: Iterable[str]) -> Iterator[str]:
    listed = ", ".join(elements)
    if listed:
        yield f"add element {table} {name} {{ {listed} }}"


def _place(link: FilterLink) -> str:
    return f"{_interface(link.bridge)} . {_ip(link.ip)}"


def _vif(link: FilterLink) -> str:
    return _interface(link.host_name)


def _interface(name: str) -> str:
    return f'"{interface_name(name)}"'


def _ip(text: str) -> str:
    return str(IPv4Address(text))
