"""Flows that the kernel remembers with a translation that no longer holds.

A translation is chosen by a flow's first packet. A UDP client that never pauses would keep the one
of before for ever: none, if it sent before its port was mapped; that of an app long gone, if the
port went to another. So when port maps change, such flows are forgotten and begin anew.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TypeAlias

from edgevirt.host.net.spec import Filter
from edgevirt.host.netlink import Conntrack, IPRoute, NFCTAttrTuple
from edgevirt.model.network import AclAction

Port: TypeAlias = tuple[int, int]
"""(protocol, port of the node)."""
Target: TypeAlias = tuple[str, int]
"""(address, port of the guest)."""


def port_maps(applied: Filter) -> dict[Port, Target]:
    return {
        (rule.protocol, rule.node_port): (link.ip, rule.local_port)
        for link in applied.links
        for rule in link.rules
        if rule.action == AclAction.PORTMAP
    }


def changed_ports(before: Mapping[Port, Target], after: Mapping[Port, Target]) -> set[Port]:
    return {port for port in before.keys() | after.keys() if before.get(port) != after.get(port)}


def forget_flows(ports: set[Port], maps: Mapping[Port, Target]) -> None:
    """Of flows to these ports of the node, those that do not lead where `maps` says."""
    if not ports:
        return
    with IPRoute() as netlink:
        own = {address.get_attr("IFA_ADDRESS") for address in netlink.get_addr(family=2)}
    with Conntrack() as flows:
        for protocol, port in sorted(ports):
            asked = NFCTAttrTuple(family=socket.AF_INET, proto=protocol, dport=port)
            for flow in list(flows.dump_entries(tuple_orig=asked)):
                leads_to = (flow.tuple_reply.saddr, flow.tuple_reply.sport)
                if flow.tuple_orig.daddr in own and leads_to != maps.get((protocol, port)):
                    flows.delete(flow)
