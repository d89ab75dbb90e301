"""A port config as a JSON file, in the form that EVE takes from a stick or from its config files.

Facts of the form: EVE's docs/CONFIG.md. Keys that aren't known are passed over.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import Final

import msgspec

from edgevirt.model.port_config import complete
from edgevirt.model.ports import (
    Dhcp,
    PortConfig,
    PortNetwork,
    PortSettings,
    PortSource,
    Proxy,
    ProxyServer,
)

OVERRIDE_MAX: Final = 64 << 10
_PORTS_MAX: Final = 64
_WIRELESS: Final = ("wlan", "wwan")


class OverrideError(ValueError):
    """«cannot use the override: why»."""


class _Server(msgspec.Struct, rename="pascal"):
    server: str = ""
    port: int = 0
    type: int = 0


class _Port(msgspec.Struct, rename="pascal"):
    if_name: str
    name: str = ""
    logicallabel: str = ""
    phylabel: str = ""
    is_mgmt: bool | None = None
    free: bool = True
    cost: int = 0
    dhcp: int = 4
    addr_subnet: str = ""
    gateway: str = ""
    domain_name: str = ""
    ntp_server: str = ""
    dns_servers: tuple[str, ...] | None = None
    m_t_u: int = msgspec.field(default=0, name="MTU")
    proxies: tuple[_Server, ...] | None = None
    exceptions: str = ""
    pacfile: str = ""
    network_proxy_enable: bool = False
    network_proxy_u_r_l: str = msgspec.field(default="", name="NetworkProxyURL")


class _File(msgspec.Struct, rename="pascal"):
    ports: tuple[_Port, ...]
    version: int = 0
    time_priority: str = ""


def parse_override(raw: bytes, at: float) -> PortConfig:
    """`at`: its time when it doesn't say one, seconds since 1970. Raises OverrideError."""
    if len(raw) > OVERRIDE_MAX:
        raise OverrideError(f"cannot use the override: it has more than {OVERRIDE_MAX} bytes")
    try:
        file = msgspec.json.decode(raw, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OverrideError(f"cannot use the override: {error}") from None
    if not 0 < len(file.ports) <= _PORTS_MAX:
        raise OverrideError(f"cannot use the override: it names {len(file.ports)} ports")
    return PortConfig(
        source=PortSource.OVERRIDE,
        priority=_seconds(file.time_priority) or at,
        ports=tuple(_settings(port, file.version) for port in file.ports),
    )


def _settings(port: _Port, version: int) -> PortSettings:
    """Before version 1 every port was for management."""
    bare = PortSettings(
        name=port.logicallabel or port.name or port.if_name,
        ifname=port.if_name,
        management=port.is_mgmt if port.is_mgmt is not None and version else True,
        cost=min(max(port.cost, 0 if port.free else 1), 255),
    )
    network = PortNetwork(
        id="",
        dhcp=_dhcp(port.dhcp),
        subnet=_subnet(port.addr_subnet),
        gateway=port.gateway,
        domain=port.domain_name,
        dns=port.dns_servers or (),
        ntp=(port.ntp_server,) if port.ntp_server else (),
        mtu=port.m_t_u,
        proxy=_proxy(port),
    )
    medium = "a wireless port is" if port.if_name.startswith(_WIRELESS) else ""
    return complete(bare, network, port.addr_subnet, medium)


def _dhcp(number: int) -> Dhcp:
    """A port with none at all is there for its traffic alone."""
    try:
        found = Dhcp(number)
    except ValueError:
        raise OverrideError(f"cannot use the override: DHCP type {number} is not known") from None
    return Dhcp.NONE if found is Dhcp.NOOP else found


def _subnet(text: str) -> str:
    try:
        return str(ipaddress.ip_interface(text).network) if text else ""
    except ValueError:
        return text


def _proxy(port: _Port) -> Proxy | None:
    proxy = Proxy(
        discover=port.network_proxy_enable,
        servers=tuple(
            ProxyServer(protocol=s.type, server=s.server, port=s.port) for s in port.proxies or ()
        ),
        exceptions=port.exceptions,
        pac=port.pacfile,
        pac_url=port.network_proxy_u_r_l,
    )
    return None if proxy == Proxy() else proxy


def _seconds(text: str) -> float:
    """0.0: nothing, or nothing that can be read."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp() if text else 0.0
    except (ValueError, OverflowError):
        return 0.0
