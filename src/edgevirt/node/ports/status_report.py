"""A port config, and the machine's interfaces, as the status that the others read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.ports import Setup
from edgevirt.model.ports import Dhcp, PortConfig, PortSettings, PortStatus


def setups(config: PortConfig) -> list[Setup]:
    """What the machine is asked for. A port that can't be used is left alone."""
    return [_setup(port) for port in config.ports if not port.trouble]


def _setup(port: PortSettings) -> Setup:
    return Setup(
        interface=port.ifname,
        dhcp=port.dhcp is Dhcp.CLIENT,
        address=port.address,
        gateway=port.gateway,
        dns=port.dns,
        ntp=port.ntp,
        domain=port.domain,
        mtu=port.mtu,
        cost=port.cost,
    )


def port_statuses(
    ports: Iterable[PortSettings], interfaces: Mapping[str, Interface]
) -> tuple[PortStatus, ...]:
    """Untested."""
    return tuple(_port_status(port, interfaces.get(port.ifname)) for port in ports)


def _port_status(port: PortSettings, found: Interface | None) -> PortStatus:
    seen = found or Interface(name=port.ifname)
    return PortStatus(
        name=port.name,
        ifname=port.ifname,
        management=port.management,
        cost=port.cost,
        dhcp=port.dhcp,
        network=port.network,
        present=found is not None,
        up=seen.up,
        mac=seen.mac,
        mtu=seen.mtu,
        addresses=seen.addresses,
        routers=seen.routers,
        dns=seen.dns,
        ntp=seen.ntp,
        domain=seen.domain,
        proxy=port.proxy,
        error=port.trouble,
    )
