"""A port config, and the machine's interfaces, as the status that the others read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.ports import Setup
from edgevirt.host.net.probe import Finding
from edgevirt.model.ports import (
    DeviceNetworkStatus,
    Dhcp,
    PortConfig,
    PortSettings,
    PortStatus,
)
from edgevirt.node.ports.keeper import Keeper
from edgevirt.node.ports.steps import Phase


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


def status(
    keeper: Keeper, interfaces: Mapping[str, Interface], times: Mapping[str, Times]
) -> DeviceNetworkStatus:
    """`times`: of the tests, by name of the port."""
    entry = keeper.entry
    if entry is None:
        return DeviceNetworkStatus(since=keeper.since)
    return DeviceNetworkStatus(
        source=entry.config.source,
        index=keeper.listed.current,
        state=entry.state,
        since=keeper.since,
        testing=keeper.phase is Phase.TRYING,
        ports=tuple(
            _port_status(
                port,
                interfaces.get(port.ifname),
                keeper.questions.findings.get(port.name),
                times.get(port.name, Times()),
            )
            for port in entry.config.ports
        ),
        error=entry.last_error,
    )


class Times(msgspec.Struct, frozen=True):
    """When a port's tests failed and passed the last time."""

    failed: float = 0.0
    succeeded: float = 0.0


def _port_status(
    port: PortSettings, found: Interface | None, finding: Finding | None, times: Times
) -> PortStatus:
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
        reach=finding.reach if finding is not None else None,
        error=port.trouble or (finding.why if finding is not None else ""),
        last_failed=times.failed,
        last_succeeded=times.succeeded,
    )
