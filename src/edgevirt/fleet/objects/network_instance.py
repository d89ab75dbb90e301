"""NetworkInstance: a network for apps. Each node whose apps use it has one of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from edgevirt.fleet.objects.base.columns import AGE, NAME, Column
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition
from edgevirt.fleet.objects.base.problems import Problem, forbidden, invalid, required, unsupported

LOCAL = "Local"
SWITCH = "Switch"
TYPES = (LOCAL, SWITCH)


class DhcpRange(ApiStruct, frozen=True, kw_only=True):
    """Addresses that are given out."""

    first: str = ""
    """The first of them."""
    last: str = ""
    """The last of them."""


class StaticName(ApiStruct, frozen=True, kw_only=True):
    """A name that apps can look up."""

    name: str = ""
    """The name."""
    addresses: tuple[str, ...] = ()
    """Its addresses."""


class NetworkDns(ApiStruct, frozen=True, kw_only=True):
    """Names on this network."""

    domain: str = ""
    """Domain of the apps' names."""
    servers: tuple[str, ...] = ()
    """Servers to ask for other names; empty: those of the port."""
    static_names: tuple[StaticName, ...] = ()
    """Names besides those of the apps."""


class NetworkInstanceSpec(ApiStruct, frozen=True, kw_only=True):
    """What the network should be."""

    type: str = LOCAL
    """`Local`: a network of its own behind NAT. `Switch`: joined with the port's network."""
    port: str = "uplink"
    """The node's port: a name, or `uplink`, `freeuplink`, `all`; empty: no way out."""
    subnet: str = ""
    """Of a Local network: `10.1.0.0/24`."""
    gateway: str = ""
    """The node's own address in it; empty: the first one."""
    dhcp_range: DhcpRange | None = None
    """Addresses for apps; absent: all but the gateway."""
    dns: NetworkDns = NetworkDns()
    """Names on this network."""
    ntp: str = ""
    """Time server that apps are told of."""
    mtu: int = 0
    """Bytes; 0: the port's."""
    flow_log: bool = False
    """Whether connections are logged."""


class NetworkOnNode(ApiStruct, frozen=True, kw_only=True):
    """The network on one node."""

    edge_node: str = ""
    """The node."""
    state: str = ""
    """`Init`, `Online` or `Error`."""
    bridge: str = ""
    """Name of its bridge there."""
    message: str = ""
    """What is wrong."""


class NetworkInstanceStatus(ApiStruct, frozen=True, kw_only=True):
    """The network on the nodes that use it."""

    conditions: tuple[Condition, ...] = ()
    """Aspects of its state."""
    nodes: tuple[NetworkOnNode, ...] = ()
    """The nodes that use it."""


class NetworkInstance(ApiObject, frozen=True, kw_only=True):
    """A network for apps."""

    spec: NetworkInstanceSpec = NetworkInstanceSpec()
    """What it should be."""
    status: NetworkInstanceStatus = NetworkInstanceStatus()
    """What it is."""

    @property
    def addressing(self) -> Addressing | None:
        """Of a valid Local network, with the defaults filled in; None for a Switch."""
        if self.spec.type != LOCAL:
            return None
        subnet = ipaddress.IPv4Network(self.spec.subnet)
        return fill_addressing(subnet, self.spec.gateway, self.spec.dhcp_range)


@dataclass(frozen=True)
class Addressing:
    """Addresses of a Local network. The gateway is never between `first` and `last`."""

    subnet: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address
    first: ipaddress.IPv4Address
    last: ipaddress.IPv4Address


def fill_addressing(
    subnet: ipaddress.IPv4Network, gateway: str, given: DhcpRange | None
) -> Addressing:
    """Gateway: the first host. Range: the larger part of the hosts beside the gateway.

    Raises ValueError when `gateway` or a given end is not an address.
    """
    low, high = subnet.network_address + 1, subnet.broadcast_address - 1
    router = ipaddress.IPv4Address(gateway) if gateway else low
    if router - int(low) > ipaddress.IPv4Address(int(high) - int(router)):
        start, end = low, router - 1
    else:
        start, end = router + 1, high
    if given is not None:
        start = ipaddress.IPv4Address(given.first) if given.first else start
        end = ipaddress.IPv4Address(given.last) if given.last else end
    return Addressing(subnet, router, start, end)


def validate(network: NetworkInstance) -> Iterator[Problem]:
    spec = network.spec
    if spec.type not in TYPES:
        yield unsupported("spec.type", spec.type, TYPES)
    elif spec.type == LOCAL:
        yield from _check_local(spec)
    else:
        yield from _check_switch(spec)
    if spec.mtu and not 1280 <= spec.mtu <= 65535:
        yield invalid("spec.mtu", spec.mtu, "must be 0, or between 1280 and 65535")
    for index, server in enumerate(spec.dns.servers):
        yield from check_address(f"spec.dns.servers[{index}]", server)
    for index, entry in enumerate(spec.dns.static_names):
        path = f"spec.dns.staticNames[{index}]"
        if not entry.name:
            yield required(f"{path}.name")
        if not entry.addresses:
            yield required(f"{path}.addresses")
        for i, address in enumerate(entry.addresses):
            yield from check_address(f"{path}.addresses[{i}]", address)


def _check_switch(spec: NetworkInstanceSpec) -> Iterator[Problem]:
    for field, value in (
        ("subnet", spec.subnet),
        ("gateway", spec.gateway),
        ("dhcpRange", spec.dhcp_range),
    ):
        if value:
            yield forbidden(f"spec.{field}", "a Switch takes its addresses from the port's network")


def _check_local(spec: NetworkInstanceSpec) -> Iterator[Problem]:
    if not spec.subnet:
        yield required("spec.subnet", "such as 10.1.0.0/24")
        return
    try:
        subnet = ipaddress.IPv4Network(spec.subnet)
    except ValueError as error:
        yield invalid("spec.subnet", spec.subnet, f"must be an IPv4 network: {error}")
        return
    if subnet.prefixlen > 29 or subnet.prefixlen < 8:
        yield invalid("spec.subnet", spec.subnet, "must have a prefix from /8 to /29")
        return
    given = spec.dhcp_range or DhcpRange()
    broken = False
    for field, text in (
        ("spec.gateway", spec.gateway),
        ("spec.dhcpRange.first", given.first),
        ("spec.dhcpRange.last", given.last),
    ):
        for problem in _check_host(field, text, subnet):
            broken = True
            yield problem
    if not broken:
        yield from _check_range(fill_addressing(subnet, spec.gateway, spec.dhcp_range))


def _check_host(field: str, text: str, subnet: ipaddress.IPv4Network) -> Iterator[Problem]:
    if not text:
        return
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        yield invalid(field, text, "must be an IPv4 address")
        return
    if not subnet.network_address < address < subnet.broadcast_address:
        yield invalid(field, text, f"must be a host's address in {subnet}")


def _check_range(plan: Addressing) -> Iterator[Problem]:
    if plan.first > plan.last:
        yield invalid("spec.dhcpRange.first", str(plan.first), f"must not be after {plan.last}")
    elif plan.first <= plan.gateway <= plan.last:
        yield invalid("spec.gateway", str(plan.gateway), "must be outside spec.dhcpRange")


def check_address(field: str, text: str) -> Iterator[Problem]:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        yield invalid(field, text, "must be an IP address")


COLUMNS = (
    NAME,
    Column("Type", lambda n, _: n.spec.type),
    Column("Subnet", lambda n, _: n.spec.subnet or "<none>"),
    Column("Port", lambda n, _: n.spec.port or "<none>"),
    Column("Nodes", lambda n, _: len(n.status.nodes), "integer", priority=1),
    AGE,
)
