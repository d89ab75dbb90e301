"""The node's ports: one noun out of a physical device and the adapter that uses it.

An adapter names its device by the device's logical label. Devices that no adapter uses, and
adapters over a VLAN or bond, are none of the node's business yet: they stay in the config's rest,
or in a port without a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

from edgevirt.model.node import Port
from edgevirt.model.ports import ETHERNET
from edgevirt.wire.convert.rest import ConvertError, copy_without, pack, unpack
from edgevirt.wire.errors import Reason
from edgevirt.wire.messages import common, config

DHCP_NETWORK: Final = "6d1b0f3c-3b0e-5d43-9c7a-2f1c5a3f9d10"
"""The one network that a port without a network of its own refers to on the wire, where each
management port needs one: IPv4 with a DHCP client."""

_IFNAME: Final = "ifname"


def dhcp_network() -> config.NetworkConfig:
    return config.NetworkConfig(
        id=DHCP_NETWORK, type=common.V4, ip=common.ipspec(dhcp=common.Client)
    )


def ports(
    adapters: Sequence[config.SystemAdapter], devices: Sequence[config.PhysicalIO]
) -> tuple[tuple[Port, ...], list[config.PhysicalIO]]:
    """The ports, and the devices that none of them uses."""
    free = list(devices)
    found = []
    names = set()
    for adapter in adapters:
        if adapter.name in names or not adapter.name:
            raise ConvertError(
                Reason.MALFORMED, f"cannot read ports: {adapter.name!r} is no name for another one"
            )
        names.add(adapter.name)
        found.append(_port(adapter, _take(free, adapter.lowerLayerName or adapter.name)))
    return tuple(found), free


def adapter_message(noun: Port) -> config.SystemAdapter:
    message = unpack(config.SystemAdapter, noun.rest_adapter)
    message.name = noun.name
    message.uplink = noun.uplink
    message.cost = noun.cost
    message.networkUUID = noun.network or (DHCP_NETWORK if noun.uplink else "")
    message.addr = noun.address
    message.lowerLayerName = message.lowerLayerName or noun.name
    return message


def device_messages(nouns: Iterable[Port]) -> list[config.PhysicalIO]:
    """A port with neither a device nor an interface lies over something else."""
    return [_device_message(noun) for noun in nouns if noun.rest_io or noun.ifname]


def _take(free: list[config.PhysicalIO], label: str) -> config.PhysicalIO | None:
    for index, device in enumerate(free):
        if (device.logicallabel or device.phylabel) == label:
            return free.pop(index)
    return None


def _port(adapter: config.SystemAdapter, device: config.PhysicalIO | None) -> Port:
    rest = copy_without(adapter, "name", "uplink", "cost", "networkUUID", "addr")
    if rest.lowerLayerName == adapter.name:
        rest.ClearField("lowerLayerName")
    network = adapter.networkUUID.strip().lower()
    if network == DHCP_NETWORK and adapter.uplink:
        network = ""
    label = adapter.lowerLayerName or adapter.name
    ifname, rest_io = ("", b"") if device is None else _device(label, device)
    kind = ETHERNET if device is None else int(device.ptype)
    return Port(
        name=adapter.name,
        ifname=ifname,
        uplink=adapter.uplink,
        cost=adapter.cost,
        network=network,
        address=adapter.addr,
        type=kind,
        rest_io=rest_io,
        rest_adapter=pack(rest),
    )


def _device(label: str, device: config.PhysicalIO) -> tuple[str, bytes]:
    """Interface name and rest. Address names are spelled in any case."""
    spelled = next((key for key in device.phyaddrs if key.lower() == _IFNAME), _IFNAME)
    ifname = device.phyaddrs.get(spelled, "")
    rest = copy_without(device, "ptype")
    if spelled in rest.phyaddrs:
        del rest.phyaddrs[spelled]
    if ifname and rest == _usual_device(label):
        return ifname, b""
    return ifname, pack(rest)


def _device_message(noun: Port) -> config.PhysicalIO:
    if noun.rest_io:
        message = unpack(config.PhysicalIO, noun.rest_io)
    else:
        lower = unpack(config.SystemAdapter, noun.rest_adapter).lowerLayerName
        message = _usual_device(lower or noun.name)
    message.ptype = cast("common.PhyIoType", noun.type)
    if noun.ifname:
        message.phyaddrs[_IFNAME] = noun.ifname
    return message


def _usual_device(label: str) -> config.PhysicalIO:
    """A port for the node and its apps, less its type."""
    return config.PhysicalIO(
        phylabel=label,
        logicallabel=label,
        assigngrp=label,
        usage=common.PhyIoUsageMgmtAndApps,
    )
