"""What can be said of a port before the controller is asked by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgevirt.host.net.addressing import Interface
from edgevirt.host.net.probe import Finding
from edgevirt.model.ports import Dhcp, PortConfig, PortSettings, Reach

TEMPORARY: Final = frozenset({Reach.REFUSED, Reach.CERTIFICATE_TIME, Reach.UNAVAILABLE})
"""Faults at the controller's end that pass: no reason to use other ports."""
DEFINITE: Final = frozenset({Reach.WRONG_SERVER, Reach.WRONG_ROOT, Reach.REFUSES})
"""Asking again changes nothing."""


def candidates(config: PortConfig) -> list[PortSettings]:
    """Ports by which the controller may be asked, the cheapest first."""
    usable = (port for port in config.ports if port.management and not port.trouble)
    return sorted(usable, key=lambda port: (port.cost, port.name))


def obstacle(port: PortSettings, interfaces: Mapping[str, Interface]) -> Finding | None:
    """None: the controller can be asked."""
    found = interfaces.get(port.ifname)
    if found is None:
        return Finding(Reach.NO_LINK, f"there is no interface {port.ifname}")
    if not found.up:
        return Finding(Reach.NO_LINK, f"{port.ifname} has no link")
    if not any(_counts(port, address) for address in found.addresses):
        if port.dhcp is Dhcp.STATIC:
            return Finding(Reach.NO_ADDRESS, f"{port.ifname} has no address yet")
        return Finding(Reach.NO_ADDRESS, f"{port.ifname} has no address: no DHCP server answers")
    return None


def _counts(port: PortSettings, address: str) -> bool:
    """Routers hand out IPv6 addresses long before a DHCP server has answered."""
    return port.dhcp is Dhcp.STATIC or ":" not in address


def sentence(findings: Mapping[str, Finding]) -> str:
    """Of findings by port: why none of them works."""
    reasons = "; ".join(f"{name}: {finding.why}" for name, finding in findings.items())
    return f"cannot reach the controller: {reasons}" if reasons else ""
