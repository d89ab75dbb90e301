"""Ports and their networks, as a controller's config has them, become one port config.

A port that cannot be used as it is asked for stays in it with the reason: the others go on without
it, and its controller is told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from edgevirt.model.node import Port
from edgevirt.model.ports import (
    ETHERNET,
    Dhcp,
    PortConfig,
    PortNetwork,
    PortSettings,
    PortSource,
)

_NOT_YET: Final = {5: "Wi-Fi is", 6: "a cellular modem is"}
"""By `PhyIoType`."""
_MTU_LEAST, _MTU_MOST = 1280, 65_535
_COST_MOST: Final = 255


class _Unusable(Exception):
    """Why a port cannot be used."""


def port_config(
    source: PortSource, priority: float, ports: Iterable[Port], networks: Iterable[PortNetwork]
) -> PortConfig | None:
    """None when there is no port to speak of: that is no wish to have none.

    Where no port is marked for management, all are, at no cost (EVE's rule).
    """
    ports = tuple(ports)
    known = {network.id.strip().lower(): network for network in networks}
    marked = any(port.uplink for port in ports)
    settings = tuple(_settings(port, known, marked) for port in ports)
    return PortConfig(source=source, priority=priority, ports=settings) if settings else None


def _settings(port: Port, networks: Mapping[str, PortNetwork], marked: bool) -> PortSettings:
    management, cost = (port.uplink, min(port.cost, _COST_MOST)) if marked else (True, 0)
    bare = PortSettings(
        name=port.name, ifname=port.ifname, management=management, cost=cost, network=port.network
    )
    try:
        return complete(bare, _network(port, networks, management), port.address, _medium(port))
    except _Unusable as error:
        return _refused(bare, error)


def complete(
    bare: PortSettings, network: PortNetwork, address: str, medium: str = ""
) -> PortSettings:
    """`bare` with what its network says, or with why it can't be. `medium`: «Wi-Fi is»."""
    try:
        if medium:
            raise _Unusable(f"{medium} not supported yet")
        if not bare.ifname:
            raise _Unusable("the config does not say which interface it is")
        if bare.management and network.dhcp is Dhcp.NONE:
            raise _Unusable("a port for management needs an address")
        if network.mtu and not _MTU_LEAST <= network.mtu <= _MTU_MOST:
            raise _Unusable(f"the MTU {network.mtu} is not between {_MTU_LEAST} and {_MTU_MOST}")
        static = network.dhcp is Dhcp.STATIC
        return PortSettings(
            name=bare.name,
            ifname=bare.ifname,
            management=bare.management,
            cost=bare.cost,
            network=bare.network,
            dhcp=Dhcp.CLIENT if network.dhcp is Dhcp.NOOP else network.dhcp,
            address=_static_address(address, network.subnet) if static else "",
            gateway=_gateway(network.gateway) if static else "",
            domain=network.domain,
            dns=tuple(_addresses(network.dns)),
            ntp=network.ntp,
            mtu=network.mtu,
            proxy=network.proxy,
        )
    except _Unusable as error:
        return _refused(bare, error)


def last_resort(interfaces: Iterable[str]) -> PortConfig:
    """Every Ethernet port by DHCP."""
    ports = tuple(PortSettings(name=name, ifname=name) for name in sorted(interfaces))
    return PortConfig(source=PortSource.LAST_RESORT, priority=0.0, ports=ports)


def _refused(bare: PortSettings, error: _Unusable) -> PortSettings:
    return PortSettings(
        name=bare.name,
        ifname=bare.ifname,
        management=bare.management,
        cost=bare.cost,
        network=bare.network,
        trouble=f"cannot use port {bare.name}: {error}",
    )


def _medium(port: Port) -> str:
    if port.type in _NOT_YET:
        return _NOT_YET[port.type]
    if not port.ifname and not port.rest_io and port.type == ETHERNET:
        return "a VLAN or bond is"
    if port.type != ETHERNET:
        return f"a device of type {port.type} is"
    return ""


def _network(port: Port, networks: Mapping[str, PortNetwork], management: bool) -> PortNetwork:
    if not port.network:
        return PortNetwork(id="", dhcp=Dhcp.CLIENT if management else Dhcp.NONE)
    network = networks.get(port.network.strip().lower())
    if network is None:
        raise _Unusable(f"its network {port.network} is not in the config")
    return network


def _static_address(address: str, subnet: str) -> str:
    if not address:
        raise _Unusable("it has no static address")
    try:
        network = ipaddress.ip_network(subnet, strict=False)
        ip = ipaddress.ip_address(address.partition("/")[0])
    except ValueError as error:
        raise _Unusable(str(error)) from None
    if ip.version != 4:
        raise _Unusable(f"its address {ip} is none of IPv4; others are not supported yet")
    if ip not in network:
        raise _Unusable(f"its address {ip} is not in its subnet {network}")
    return f"{ip}/{network.prefixlen}"


def _gateway(text: str) -> str:
    gateway = next(iter(_addresses([text])), "")
    if ":" in gateway:
        raise _Unusable(f"its gateway {gateway} is none of IPv4; others are not supported yet")
    return gateway


def _addresses(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        if not text:
            continue
        try:
            yield str(ipaddress.ip_address(text))
        except ValueError as error:
            raise _Unusable(str(error)) from None
