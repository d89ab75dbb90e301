"""Network instances: both ways."""

from __future__ import annotations

import ipaddress
from typing import Final, cast

from edgevirt.model.ids import NetworkInstanceId
from edgevirt.model.network import NetworkInstance, NetworkInstanceType
from edgevirt.wire.convert.rest import (
    copy_without,
    enum_of,
    forget,
    identity,
    leave,
    pack,
    restore,
    unpack,
)
from edgevirt.wire.messages import common, config

_DNS_FIELDS: Final = ("HostName", "Address")
_IP_FIELDS: Final = ("subnet", "gateway", "domain", "ntp", "dns")


def network_instance(message: config.NetworkInstanceConfig) -> NetworkInstance:
    what = f"network instance {message.uuidandversion.uuid}"
    kind = enum_of(NetworkInstanceType, message.instType, what)
    ip = message.ip
    return NetworkInstance(
        id=NetworkInstanceId(identity(message.uuidandversion.uuid, what)),
        type=kind,
        name=message.displayname,
        port=message.port.name,
        subnet=ip.subnet,
        gateway=ip.gateway,
        dhcp_first=ip.dhcpRange.start,
        dhcp_last=ip.dhcpRange.end,
        domain=ip.domain,
        ntp=ip.ntp,
        dns=tuple(ip.dns),
        static_names=tuple((entry.HostName, tuple(entry.Address)) for entry in message.dns),
        flow_log=not message.disable_flowlog,
        mtu=message.mtu,
        activate=message.activate,
        rest=pack(_rest(message, kind)),
    )


def _rest(
    message: config.NetworkInstanceConfig, kind: NetworkInstanceType
) -> config.NetworkInstanceConfig:
    rest = copy_without(
        message, "displayname", "instType", "dns", "disable_flowlog", "mtu", "activate"
    )
    forget(rest, ("uuidandversion",), ("uuid",))
    forget(rest, ("port",), ("name",))
    if rest.HasField("ip"):
        forget(rest.ip, ("dhcpRange",), ("start", "end"))
        forget(rest, ("ip",), _IP_FIELDS)
    if rest.ipType == _address_type(kind, message.ip.subnet):
        rest.ClearField("ipType")
    leave(message.dns, _DNS_FIELDS, rest.dns)
    return rest


def network_instance_message(noun: NetworkInstance) -> config.NetworkInstanceConfig:
    message = unpack(config.NetworkInstanceConfig, noun.rest)
    message.uuidandversion.uuid = noun.id
    message.displayname = noun.name
    message.instType = cast("config.ZNetworkInstType", int(noun.type))
    message.activate = noun.activate
    if not message.ipType:
        message.ipType = _address_type(noun.type, noun.subnet)
    if noun.port:
        message.port.name = noun.port
    _fill_ip(message, noun)
    restore(
        message.dns,
        _DNS_FIELDS,
        (
            common.ZnetStaticDNSEntry(HostName=name, Address=addresses)
            for name, addresses in noun.static_names
        ),
    )
    message.disable_flowlog = not noun.flow_log
    message.mtu = noun.mtu
    return message


def _fill_ip(message: config.NetworkInstanceConfig, noun: NetworkInstance) -> None:
    ip = common.ipspec(
        subnet=noun.subnet, gateway=noun.gateway, domain=noun.domain, ntp=noun.ntp, dns=noun.dns
    )
    if noun.dhcp_first or noun.dhcp_last:
        ip.dhcpRange.start = noun.dhcp_first
        ip.dhcpRange.end = noun.dhcp_last
    if ip.ByteSize():
        message.ip.MergeFrom(ip)


def _address_type(kind: NetworkInstanceType, subnet: str) -> config.AddressType:
    """A switch has no addresses of its own, and peers refuse one that claims some."""
    if kind is NetworkInstanceType.SWITCH:
        return config.First
    try:
        version = ipaddress.ip_network(subnet, strict=False).version
    except ValueError:
        return config.IPV4
    return config.IPV6 if version == 6 else config.IPV4
