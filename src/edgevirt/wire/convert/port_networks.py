"""What surrounds a node's port, and its proxies: both ways."""

from __future__ import annotations

import ipaddress
from typing import Final, cast

from edgevirt.model.ports import Dhcp, PortNetwork, Proxy, ProxyServer
from edgevirt.wire.convert.rest import copy_without, enum_of, forget, leave, pack, restore, unpack
from edgevirt.wire.messages import common, config

_IP_FIELDS: Final = ("dhcp", "subnet", "gateway", "domain", "ntp", "dns", "more_ntp")
_PROXY_FIELDS: Final = ("networkProxyEnable", "proxies", "exceptions", "pacfile", "networkProxyURL")
_SERVER_FIELDS: Final = ("proto", "server", "port")


def port_network(message: config.NetworkConfig) -> PortNetwork:
    ip = message.ip
    rest = copy_without(message, "id", "mtu", "entProxy")
    forget(rest, ("ip",), _IP_FIELDS)
    if rest.type == _usual_type(ip.subnet):
        rest.ClearField("type")
    elif not rest.type:
        rest.type = _UNSAID
    return PortNetwork(
        id=message.id,
        dhcp=enum_of(Dhcp, ip.dhcp, f"network {message.id[:64]}"),
        subnet=ip.subnet,
        gateway=ip.gateway,
        domain=ip.domain,
        dns=tuple(ip.dns),
        ntp=(ip.ntp, *ip.more_ntp) if ip.ntp or ip.more_ntp else (),
        mtu=message.mtu,
        proxy=_proxy(message.entProxy) if message.HasField("entProxy") else None,
        rest=pack(rest),
    )


def port_network_message(noun: PortNetwork) -> config.NetworkConfig:
    message = unpack(config.NetworkConfig, noun.rest)
    message.id = noun.id
    message.mtu = noun.mtu
    if not message.type:
        message.type = _usual_type(noun.subnet)
    elif message.type == _UNSAID:
        message.ClearField("type")
    settings = common.ipspec(
        dhcp=cast("common.DHCPType", int(noun.dhcp)),
        subnet=noun.subnet,
        gateway=noun.gateway,
        domain=noun.domain,
        ntp=noun.ntp[0] if noun.ntp else "",
        dns=noun.dns,
        more_ntp=noun.ntp[1:],
    )
    if settings.ByteSize():
        message.ip.MergeFrom(settings)
    if noun.proxy is not None:
        message.entProxy.CopyFrom(_proxy_message(noun.proxy))
    return message


_UNSAID: Final = cast("common.NetworkType", -1)
"""In a rest: the message says no type, where a usual one would."""


def _usual_type(subnet: str) -> common.NetworkType:
    try:
        version = ipaddress.ip_network(subnet, strict=False).version
    except ValueError:
        version = 4
    return common.V6 if version == 6 else common.V4


def _proxy(message: common.ProxyConfig) -> Proxy:
    rest = copy_without(message, *_PROXY_FIELDS)
    leave(message.proxies, _SERVER_FIELDS, rest.proxies)
    return Proxy(
        discover=message.networkProxyEnable,
        servers=tuple(
            ProxyServer(protocol=int(item.proto), server=item.server, port=item.port)
            for item in message.proxies
        ),
        exceptions=message.exceptions,
        pac=message.pacfile,
        pac_url=message.networkProxyURL,
        rest=pack(rest),
    )


def _proxy_message(noun: Proxy) -> common.ProxyConfig:
    message = unpack(common.ProxyConfig, noun.rest)
    message.networkProxyEnable = noun.discover
    message.exceptions = noun.exceptions
    message.pacfile = noun.pac
    message.networkProxyURL = noun.pac_url
    servers = (
        common.ProxyServer(
            proto=cast("common.proxyProto", item.protocol), server=item.server, port=item.port
        )
        for item in noun.servers
    )
    restore(message.proxies, _SERVER_FIELDS, servers)
    return message
