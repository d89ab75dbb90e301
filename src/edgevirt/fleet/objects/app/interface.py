"""Network interfaces of an app: where they are, which ports lead to it, what may pass."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from edgevirt.fleet.objects.base.names import check_label
from edgevirt.fleet.objects.base.object import ApiStruct
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.fleet.objects.network_instance import check_address

PROTOCOLS = ("TCP", "UDP")
ACL_PROTOCOLS = ("TCP", "UDP", "ICMP")
ACTIONS = ("Allow", "Drop", "Limit")


class PortMap(ApiStruct, frozen=True, kw_only=True):
    """A port of the node that leads to the app."""

    merge_keys = (
        "nodePort",
        "protocol",
    )

    protocol: str = "TCP"
    """`TCP` or `UDP`."""
    node_port: int = 0
    """Port on the node, 1 to 65535."""
    app_port: int = 0
    """Port of the app, 1 to 65535."""


class AclMatch(ApiStruct, frozen=True, kw_only=True):
    """Which traffic a rule is about; empty: all of it."""

    ip: str = ""
    """Addresses of the other side: `192.0.2.0/24`."""
    host: str = ""
    """Name of the other side, with all below it: `example.com`."""
    protocol: str = ""
    """`TCP`, `UDP` or `ICMP`."""
    local_port: int = 0
    """The app's port; 0: any."""
    remote_port: int = 0
    """Port of the other side; 0: any."""


class AclLimit(ApiStruct, frozen=True, kw_only=True):
    """How many packets may pass."""

    rate: int = 0
    """Packets per unit."""
    unit: str = "s"
    """`s`, `m`, `h` or `d`."""
    burst: int = 0
    """Packets that may come at once."""


class AppAcl(ApiStruct, frozen=True, kw_only=True):
    """One rule; the first that matches decides."""

    match: AclMatch = AclMatch()
    """Which traffic."""
    action: str = "Allow"
    """`Allow`, `Drop` or `Limit`."""
    limit: AclLimit | None = None
    """For `Limit`."""


class AppInterface(ApiStruct, frozen=True, kw_only=True):
    """One network interface of the app."""

    merge_keys = ("name",)

    name: str = ""
    """Its name within the app."""
    network_instance: str = ""
    """The NetworkInstance that it is on."""
    ip: str = ""
    """A static address in that network; empty: DHCP."""
    mac: str = ""
    """A static hardware address; empty: made by the node."""
    ports: tuple[PortMap, ...] = ()
    """Ports of the node that lead to the app."""
    acls: tuple[AppAcl, ...] | None = None
    """Rules for the app's traffic; what no rule matches is dropped. Absent: all is allowed."""


def check_interfaces(interfaces: tuple[AppInterface, ...]) -> Iterator[Problem]:
    names: set[str] = set()
    taken: set[tuple[str, int]] = set()
    for index, interface in enumerate(interfaces):
        path = f"spec.interfaces[{index}]"
        yield from check_label(f"{path}.name", interface.name)
        if interface.name in names:
            yield duplicate(f"{path}.name", interface.name)
        names.add(interface.name)
        if not interface.network_instance:
            yield required(f"{path}.networkInstance", "the name of a NetworkInstance")
        if interface.ip:
            yield from check_address(f"{path}.ip", interface.ip)
        if interface.mac and not re.fullmatch(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", interface.mac):
            yield invalid(f"{path}.mac", interface.mac, "must be like 02:16:3e:00:00:01")
        yield from _check_ports(path, interface.ports, taken)
        for i, acl in enumerate(interface.acls or ()):
            yield from _check_acl(f"{path}.acls[{i}]", acl)


def _check_ports(
    path: str, ports: tuple[PortMap, ...], taken: set[tuple[str, int]]
) -> Iterator[Problem]:
    for index, port in enumerate(ports):
        here = f"{path}.ports[{index}]"
        if port.protocol not in PROTOCOLS:
            yield unsupported(f"{here}.protocol", port.protocol, PROTOCOLS)
        for field, number in (("nodePort", port.node_port), ("appPort", port.app_port)):
            if not 1 <= number <= 65535:
                yield invalid(f"{here}.{field}", number, "must be between 1 and 65535")
        if (port.protocol, port.node_port) in taken:
            yield duplicate(f"{here}.nodePort", port.node_port)
        taken.add((port.protocol, port.node_port))


def _check_acl(path: str, acl: AppAcl) -> Iterator[Problem]:
    match = acl.match
    if acl.action not in ACTIONS:
        yield unsupported(f"{path}.action", acl.action, ACTIONS)
    if match.protocol and match.protocol not in ACL_PROTOCOLS:
        yield unsupported(f"{path}.match.protocol", match.protocol, ACL_PROTOCOLS)
    for field, number in (("localPort", match.local_port), ("remotePort", match.remote_port)):
        if not 0 <= number <= 65535:
            yield invalid(f"{path}.match.{field}", number, "must be between 0 and 65535")
        elif number and match.protocol not in PROTOCOLS:
            yield required(f"{path}.match.protocol", "a port needs TCP or UDP")
    if match.ip:
        try:
            ipaddress.ip_network(match.ip, strict=False)
        except ValueError:
            yield invalid(f"{path}.match.ip", match.ip, "must be like 192.0.2.0/24")
    if match.ip and match.host:
        yield invalid(f"{path}.match.host", match.host, "must not be given together with ip")
    if acl.action == "Limit":
        if acl.limit is None:
            yield required(f"{path}.limit")
        elif acl.limit.rate <= 0 or acl.limit.unit not in ("s", "m", "h", "d"):
            yield invalid(
                f"{path}.limit", acl.limit.unit, "must have a rate, and unit s, m, h or d"
            )
