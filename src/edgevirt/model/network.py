"""Network instances, and what connects an app to them."""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun, Trouble
from edgevirt.model.ids import AppId, NetworkInstanceId


class NetworkInstanceType(enum.IntEnum):
    """`ZNetworkInstType` of the wire; the others are dead."""

    SWITCH = 1
    LOCAL = 2


class NetworkInstance(Noun, frozen=True, kw_only=True):
    """Key: `id`."""

    id: NetworkInstanceId
    type: NetworkInstanceType
    name: str = ""
    port: str = ""
    """Adapter name or shared label (`uplink`, `freeuplink`, `all`); empty: air-gapped."""
    subnet: str = ""
    """`10.1.0.0/24`."""
    gateway: str = ""
    dhcp_first: str = ""
    dhcp_last: str = ""
    domain: str = ""
    ntp: str = ""
    dns: tuple[str, ...] = ()
    """Upstream servers; empty: the port's."""
    static_names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(name, addresses)."""
    flow_log: bool = False
    mtu: int = 0
    activate: bool = True
    rest: bytes = b""


class NetworkInstanceState(enum.IntEnum):
    """`ZNetworkInstanceState` of the wire."""

    UNSPECIFIED = 0
    INIT = 1
    ONLINE = 2
    ERROR = 3


class Assignment(Noun, frozen=True, kw_only=True):
    """An address that a network instance gave."""

    mac: str
    ip: str


class NetworkInstanceStatus(Noun, frozen=True, kw_only=True):
    """Key: id."""

    id: NetworkInstanceId
    state: NetworkInstanceState
    since: float
    name: str = ""
    type: NetworkInstanceType = NetworkInstanceType.LOCAL
    bridge: str = ""
    bridge_mac: str = ""
    subnet: str = ""
    gateway: str = ""
    ports: tuple[str, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    trouble: Trouble | None = None


class AclAction(enum.StrEnum):
    ALLOW = "allow"
    DROP = "drop"
    LIMIT = "limit"
    PORTMAP = "portmap"


class Acl(Noun, frozen=True, kw_only=True):
    """One access rule. First match decides; what matches none is dropped."""

    id: int
    matches: tuple[tuple[str, str], ...] = ()
    """(type, value); types `ip`, `host`, `protocol`, `lport`, `fport`, `eidset`, `adapter`."""
    action: AclAction = AclAction.ALLOW
    app_port: int = 0
    """For PORTMAP: the app's port; the node's is the `lport` match."""
    limit_rate: int = 0
    limit_unit: str = ""
    limit_burst: int = 0
    rest: bytes = b""


class AppInterface(Noun, frozen=True, kw_only=True):
    """One interface of an app."""

    name: str
    network: NetworkInstanceId
    mac: str = ""
    ip: str = ""
    acls: tuple[Acl, ...] = ()
    order: int = 0
    """Among the app's interfaces and adapters, where `Resources.ordered` says that it counts."""
    rest: bytes = b""


class AppNetwork(Noun, frozen=True, kw_only=True):
    """What network an app needs. Key: app id. apps → networks."""

    app: AppId
    name: str
    app_num: int
    interfaces: tuple[AppInterface, ...]
    activate: bool = True
    taps: bool = False
    """For a virtual machine: taps on the node, instead of interfaces in a namespace."""


class Vif(Noun, frozen=True, kw_only=True):
    """An interface as the app sees it."""

    name: str
    """In the app: `eth0`."""
    host_name: str
    """On the node: `nbu<i>x<app number>`."""
    bridge: str
    network: NetworkInstanceId
    mac: str
    ip: str
    prefix: int
    gateway: str


class AppNetworkStatus(Noun, frozen=True, kw_only=True):
    """Key: app id. networks → apps, domains, agent."""

    app: AppId
    ready: bool
    since: float
    netns: str = ""
    """Path of the app's network namespace."""
    vifs: tuple[Vif, ...] = ()
    dns: tuple[str, ...] = ()
    portmaps: tuple[tuple[str, int, int], ...] = ()
    """(protocol, node's port, app's port)."""
    trouble: Trouble | None = None


class InterfaceCounters(Noun, frozen=True, kw_only=True):
    """Cumulative, from the app's viewpoint for a vif."""

    name: str
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    tx_packets: int = 0
    rx_drops: int = 0
    tx_drops: int = 0
    acl_drops: int = 0


class NetworkMetric(Noun, frozen=True, kw_only=True):
    """Key: app id or network instance id, or `node` for the ports."""

    at: float
    counters: tuple[InterfaceCounters, ...] = ()
