"""Bridge, Link → Filter: everything that the packet filter enforces, as one value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgevirt.host.net.spec import Filter, FilterLink, Zone
from edgevirt.node.networks.kinds import BRIDGE, FILTER, LINK, NODE
from edgevirt.runtime import Inputs, Kind, Output


class FilterPlanner:
    name = "networks.filter"
    reads: tuple[Kind[Any], ...] = (BRIDGE, LINK)
    owns: tuple[Kind[Any], ...] = (FILTER,)

    def plan(self, inputs: Inputs) -> Iterable[Output]:
        zones = [
            Zone(bridge=spec.name, subnet=spec.subnet, gateway=spec.gateway, uplink=spec.uplink)
            for bridge in inputs.all(BRIDGE).values()
            if (spec := bridge.spec) is not None
        ]
        links = [
            FilterLink(
                host_name=interface.link.host_name,
                bridge=interface.link.bridge,
                mac=interface.link.mac,
                ip=interface.link.ip,
                rules=interface.rules,
            )
            for link in inputs.all(LINK).values()
            if link.activate
            for interface in link.interfaces
        ]
        wanted = Filter(
            zones=tuple(sorted(zones, key=lambda zone: zone.bridge)),
            links=tuple(sorted(links, key=lambda link: link.host_name)),
        )
        yield Output(FILTER, NODE, wanted)
