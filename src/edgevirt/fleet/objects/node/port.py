"""A physical port of an EdgeNode, and what surrounds it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.base.object import ApiStruct, StringSet
from edgevirt.fleet.objects.base.problems import (
    Problem,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)

PROXY_PROTOCOLS = ("HTTP", "HTTPS", "SOCKS", "FTP")


class ProxyServer(ApiStruct, frozen=True, kw_only=True):
    """A proxy for one protocol."""

    merge_keys = ("protocol",)

    protocol: str = "HTTP"
    """`HTTP`, `HTTPS`, `SOCKS` or `FTP`."""
    server: str = ""
    """Its name or address."""
    port: int = 0
    """Its port."""


class NodeProxy(ApiStruct, frozen=True, kw_only=True):
    """The proxies behind a port."""

    servers: tuple[ProxyServer, ...] = ()
    """One for each protocol."""
    exceptions: StringSet = ()
    """Hosts and domains that are reached without one."""
    pac: str = ""
    """A proxy auto-configuration file, in base64."""
    pac_url: str = msgspec.field(default="", name="pacURL")
    """Where such a file is."""
    discover: bool = False
    """Whether to look for such a file by DNS."""


class NodePort(ApiStruct, frozen=True, kw_only=True):
    """A physical port of the node."""

    merge_keys = ("name",)

    name: str = ""
    """Its name in the config: `eth0`, or a logical label."""
    interface: str = ""
    """Name of the interface on the machine; empty: as `name`."""
    uplink: bool = True
    """Whether the node reaches the fleet by it."""
    cost: int = 0
    """0 to 255; ports of lower cost are used first."""
    address: str = ""
    """Static address with its prefix, `192.0.2.7/24`; empty: DHCP."""
    gateway: str = ""
    """Of a static address."""
    dns: tuple[str, ...] = ()
    """DNS servers, besides those that DHCP names."""
    domain: str = ""
    """DNS domain to search in."""
    ntp: tuple[str, ...] = ()
    """Time servers, besides those that DHCP names."""
    mtu: int = 0
    """Largest packet, 1280 to 65535; 0: what the interface has."""
    unaddressed: bool = False
    """Whether the port has no address of its own, and only passes the apps' traffic on."""
    proxy: NodeProxy | None = None
    """Proxies by which the fleet is reached."""


def check_ports(ports: tuple[NodePort, ...]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        if not port.name:
            yield required(f"{path}.name")
        elif port.name in seen:
            yield duplicate(f"{path}.name", port.name)
        seen.add(port.name)
        if not 0 <= port.cost <= 255:
            yield invalid(f"{path}.cost", port.cost, "must be between 0 and 255")
        yield from _check_static(path, port)
        yield from _check_network(path, port)
    if ports and not any(port.uplink for port in ports):
        yield invalid(
            "spec.ports", len(ports), "one of them must be an uplink, or the node is lost"
        )


def _check_network(path: str, port: NodePort) -> Iterator[Problem]:
    if port.unaddressed and (port.uplink or port.address):
        yield forbidden(f"{path}.unaddressed", "an uplink, or an address, says otherwise")
    if port.mtu and not 1280 <= port.mtu <= 0xFFFF:
        yield invalid(f"{path}.mtu", port.mtu, "must be between 1280 and 65535")
    for index, server in enumerate(port.dns):
        try:
            ipaddress.ip_address(server)
        except ValueError:
            yield invalid(f"{path}.dns[{index}]", server, "must be an IP address")
    for index, proxy in enumerate(port.proxy.servers if port.proxy else ()):
        here = f"{path}.proxy.servers[{index}]"
        if proxy.protocol not in PROXY_PROTOCOLS:
            yield unsupported(f"{here}.protocol", proxy.protocol, PROXY_PROTOCOLS)
        if not proxy.server:
            yield required(f"{here}.server")
        if not 0 < proxy.port <= 0xFFFF:
            yield invalid(f"{here}.port", proxy.port, "must be between 1 and 65535")


def _check_static(path: str, port: NodePort) -> Iterator[Problem]:
    if not port.address:
        return
    try:
        network = ipaddress.ip_interface(port.address).network
    except ValueError:
        network = None
    if network is None or "/" not in port.address:
        yield invalid(f"{path}.address", port.address, "must be like 192.0.2.7/24")
        return
    if port.gateway:
        try:
            inside = ipaddress.ip_address(port.gateway) in network
        except ValueError:
            inside = False
        if not inside:
            yield invalid(f"{path}.gateway", port.gateway, f"must be an address in {network}")
