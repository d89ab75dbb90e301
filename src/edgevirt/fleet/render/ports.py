"""Rendering the node's ports: each with the network that it is in. Pure."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Final

from edgevirt.fleet.objects.node.edgenode import EdgeNode
from edgevirt.fleet.objects.node.port import NodePort, NodeProxy
from edgevirt.model.node import Port
from edgevirt.model.ports import Dhcp, PortNetwork, Proxy, ProxyServer

_DEFAULT: Final = (NodePort(name="eth0"),)
_PROTOCOLS: Final = {"HTTP": 0, "HTTPS": 1, "SOCKS": 2, "FTP": 3}


def ports(edge_node: EdgeNode) -> tuple[Port, ...]:
    return tuple(_port(edge_node, port) for port in edge_node.spec.ports or _DEFAULT)


def networks(edge_node: EdgeNode) -> tuple[PortNetwork, ...]:
    """Of the ports that need more than an address by DHCP."""
    return tuple(_network(edge_node, port) for port in edge_node.spec.ports if _has_network(port))


def _port(edge_node: EdgeNode, wanted: NodePort) -> Port:
    return Port(
        name=wanted.name,
        ifname=wanted.interface or wanted.name,
        uplink=wanted.uplink,
        cost=wanted.cost,
        network=_network_id(edge_node, wanted) if _has_network(wanted) else "",
        address=wanted.address.partition("/")[0],
    )


def _has_network(port: NodePort) -> bool:
    """A default network would say the same."""
    return port != NodePort(
        name=port.name, interface=port.interface, uplink=port.uplink, cost=port.cost
    )


def _network(edge_node: EdgeNode, port: NodePort) -> PortNetwork:
    subnet = str(ipaddress.ip_interface(port.address).network) if port.address else ""
    dhcp = Dhcp.STATIC if port.address else Dhcp.NONE if port.unaddressed else Dhcp.CLIENT
    return PortNetwork(
        id=_network_id(edge_node, port),
        dhcp=dhcp,
        subnet=subnet,
        gateway=port.gateway,
        domain=port.domain,
        dns=port.dns,
        ntp=port.ntp,
        mtu=port.mtu,
        proxy=_proxy(port.proxy) if port.proxy is not None else None,
    )


def _proxy(wanted: NodeProxy) -> Proxy:
    return Proxy(
        discover=wanted.discover,
        servers=tuple(
            ProxyServer(protocol=_PROTOCOLS[s.protocol], server=s.server, port=s.port)
            for s in wanted.servers
        ),
        exceptions=",".join(wanted.exceptions),
        pac=wanted.pac,
        pac_url=wanted.pac_url,
    )


def _network_id(edge_node: EdgeNode, port: NodePort) -> str:
    return str(uuid.uuid5(uuid.UUID(edge_node.metadata.uid), f"port/{port.name}"))
