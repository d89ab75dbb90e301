"""Bridge, Link → NameServer: who gets which address, and which names are answered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from edgevirt.host.net.spec import BridgeSpec, Lease, NameServerSpec
from edgevirt.model.network import NetworkInstance
from edgevirt.node.networks.kinds import BRIDGE, BRIDGE_STATUS, LINK, NAME_SERVER, Link
from edgevirt.runtime import Inputs, Kind, Output

ROUTER = "router"
"""The name of the gateway."""


class NameServerPlanner:
    """A bridge gets its name server when it is there: only then its MTU is known."""

    name = "networks.name-servers"
    reads: tuple[Kind[Any], ...] = (BRIDGE, BRIDGE_STATUS, LINK)
    owns: tuple[Kind[Any], ...] = (NAME_SERVER,)

    def plan(self, inputs: Inputs) -> Iterable[Output]:
        links = sorted(inputs.all(LINK).values(), key=lambda link: link.app)
        for key, bridge in inputs.all(BRIDGE).items():
            status = inputs.get(BRIDGE_STATUS, key)
            if bridge.spec is None or bridge.config is None:
                continue
            if status is None or status.spec != bridge.spec:
                continue
            served = _spec(bridge.spec, bridge.config, status.mtu, links)
            yield Output(NAME_SERVER, served.bridge, served)


def _spec(
    bridge: BridgeSpec, config: NetworkInstance, mtu: int, links: Iterable[Link]
) -> NameServerSpec:
    names = {ROUTER: [bridge.gateway]}
    for name, addresses in config.static_names:
        names.setdefault(name.lower(), []).extend(addresses)
    leases = []
    for link in links:
        for interface in link.interfaces:
            if interface.network == config.id:
                host = dns_label(link.name) or dns_label(link.app)
                names.setdefault(host, []).append(interface.link.ip)
                leases.append(Lease(mac=interface.link.mac, ip=interface.link.ip, host=host))
    return NameServerSpec(
        bridge=bridge.name,
        subnet=bridge.subnet,
        gateway=bridge.gateway,
        routed=bool(bridge.uplink),
        domain=config.domain,
        mtu=mtu,
        ntp=_addresses(config.ntp),
        upstream=config.dns,
        names=tuple(sorted((name, tuple(ips)) for name, ips in names.items())),
        leases=tuple(leases),
    )


def dns_label(name: str) -> str:
    """An app's display name as one DNS label (RFC 1035); «» when nothing of it can stay."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")


def _addresses(text: str) -> tuple[str, ...]:
    """Option 42 holds addresses; NTP servers given by name are left to the apps."""
    found = []
    for part in text.replace(",", " ").split():
        try:
            found.append(str(IPv4Address(part)))
        except AddressValueError:
            continue
    return tuple(found)
