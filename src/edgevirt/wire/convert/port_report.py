"""What a node tells of its ports: every port config that it knows, and which of them is in use."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from edgevirt.model.ports import (
    DeviceNetworkStatus,
    PortConfigEntry,
    PortConfigList,
    PortSettings,
    PortSource,
    PortStatus,
    Proxy,
)
from edgevirt.wire.convert.reports import stamp
from edgevirt.wire.messages import common, info

_ORIGINS: Final[Mapping[PortSource, common.NetworkConfigOrigin]] = {
    PortSource.CONTROLLER: common.NETWORK_CONFIG_ORIGIN_CONTROLLER,
    PortSource.BOOTSTRAP: common.NETWORK_CONFIG_ORIGIN_BOOTSTRAP,
    PortSource.OVERRIDE: common.NETWORK_CONFIG_ORIGIN_OVERRIDE,
    PortSource.LAST_RESORT: common.NETWORK_CONFIG_ORIGIN_LASTRESORT,
    PortSource.MANUAL: common.NETWORK_CONFIG_ORIGIN_TUI,
}


def fill_ports(
    message: info.SystemAdapterInfo, kept: PortConfigList, status: DeviceNetworkStatus | None
) -> None:
    """A `currentIndex` above 0 says that the node fell back; `lastError` of those before says why.

    Ports of the config in use are told as they are, those of the others as they were asked for.
    """
    message.currentIndex = max(0, kept.current)
    for index, entry in enumerate(kept.entries):
        live = {port.name: port for port in status.ports} if status is not None else {}
        _fill_config(message.status.add(), entry, live if index == kept.current else {})


def _fill_config(
    message: info.DevicePortStatus, entry: PortConfigEntry, live: Mapping[str, PortStatus]
) -> None:
    message.version = 1
    message.key = entry.config.source.value
    message.lastError = entry.last_error
    message.timePriority.CopyFrom(stamp(entry.config.priority))
    if entry.last_failed:
        message.lastFailed.CopyFrom(stamp(entry.last_failed))
    if entry.last_succeeded:
        message.lastSucceeded.CopyFrom(stamp(entry.last_succeeded))
    errors = dict(entry.errors)
    for port in entry.config.ports:
        told = message.ports.add()
        _fill_settings(told, port)
        told.config_source.origin = _ORIGINS[entry.config.source]
        told.config_source.submitted_at.CopyFrom(stamp(entry.config.priority))
        if port.name in live:
            _fill_state(told, live[port.name])
        elif why := port.trouble or errors.get(port.name, ""):
            _fill_error(told, port.name, why, entry.last_failed)


def _fill_settings(message: info.DevicePort, port: PortSettings) -> None:
    message.ifname = port.ifname
    message.name = port.name
    message.isMgmt = port.management
    message.free = port.cost == 0
    message.cost = port.cost
    message.dhcpType = int(port.dhcp)
    if port.address:
        message.subnet = str(ipaddress.ip_interface(port.address).network)
        message.IPAddrs.append(port.address.partition("/")[0])
    message.gateway = port.gateway
    message.domainname = port.domain
    message.ntpServer = port.ntp[0] if port.ntp else ""
    message.more_ntp_servers.extend(port.ntp[1:])
    message.dnsServers.extend(port.dns)
    message.mtu = port.mtu
    message.usage = common.PhyIoUsageMgmtAndApps if port.management else common.PhyIoUsageShared
    message.networkUUID = port.network
    if port.proxy is not None:
        _fill_proxy(message.proxy, port.proxy)


def _fill_proxy(message: info.ProxyStatus, proxy: Proxy) -> None:
    message.networkProxyEnable = proxy.discover
    message.exceptions = proxy.exceptions
    message.pacfile = proxy.pac
    message.networkProxyURL = proxy.pac_url
    for server in proxy.servers:
        message.proxies.add(type=server.protocol, server=server.server, port=server.port)


def _fill_state(message: info.DevicePort, port: PortStatus) -> None:
    message.up = port.up
    message.macAddr = port.mac
    message.mtu = port.mtu
    del message.IPAddrs[:]
    message.IPAddrs.extend(address.partition("/")[0] for address in port.addresses)
    message.defaultRouters.extend(port.routers)
    message.dns.DNSservers.extend(port.dns)
    message.dns.DNSdomain = port.domain
    if port.error:
        _fill_error(message, port.name, port.error, port.last_failed)
    elif port.last_succeeded:
        # EVE's way to say when it worked the last time: an error without a description
        message.err.timestamp.CopyFrom(stamp(port.last_succeeded))


def _fill_error(message: info.DevicePort, name: str, why: str, at: float) -> None:
    message.err.description = why
    message.err.severity = info.SEVERITY_ERROR
    if at:
        message.err.timestamp.CopyFrom(stamp(at))
    message.err.entities.add(entity=info.ENTITY_PORT, entity_id=name)
