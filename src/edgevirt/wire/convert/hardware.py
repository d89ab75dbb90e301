"""The hardware model: devices of a config both ways, and what a node tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from msgspec.structs import replace

from edgevirt.model.hardware import Adapter, AdapterGroup, Addresses, PhysicalIo
from edgevirt.model.ids import AppId
from edgevirt.model.node import Port
from edgevirt.model.sriov import FunctionSettings
from edgevirt.wire.convert import ports
from edgevirt.wire.convert.rest import pack, unpack
from edgevirt.wire.messages import common, config, info

_KEYS: Final[Mapping[str, str]] = {
    "pcilong": "pci",
    "ifname": "interface",
    "usbaddr": "usb_port",
    "usbproduct": "usb_product",
    "serial": "serial",
    "gpio": "gpio",
}
"""Of `phyaddrs`, in whatever case, and the field of Addresses. `gpio` is ours: EVE passes it by."""
_NAMES: Final = {field: key for key, field in _KEYS.items()}
_MOST_MEMBERS: Final = 64


def physical_io(message: config.PhysicalIO) -> PhysicalIo:
    noun = PhysicalIo(
        label=message.logicallabel or message.phylabel,
        phylabel=message.phylabel,
        type=int(message.ptype),
        group=message.assigngrp,
        parent_group=message.parentassigngrp,
        usage=int(message.usage),
        addresses=_addresses(message.phyaddrs),
        settings=tuple(sorted(message.cbattr.items())),
        function_count=message.vflist.vf_count,
        functions=tuple(map(_function, message.vflist.data)),
    )
    if physical_io_message(noun) == message:
        return noun
    return replace(noun, rest=pack(message))


def physical_io_message(noun: PhysicalIo) -> config.PhysicalIO:
    """A noun with a rest says less than the message did: that one comes back."""
    if noun.rest:
        return unpack(config.PhysicalIO, noun.rest)
    made = config.PhysicalIO(
        ptype=cast("common.PhyIoType", noun.type),
        phylabel=noun.phylabel,
        logicallabel=noun.label,
        assigngrp=noun.group,
        parentassigngrp=noun.parent_group,
        usage=cast("common.PhyIoMemberUsage", noun.usage),
        phyaddrs={
            name: value
            for field, name in _NAMES.items()
            if (value := str(getattr(noun.addresses, field)))
        },
        cbattr=dict(noun.settings),
    )
    if noun.function_count or noun.functions:
        made.vflist.vf_count = noun.function_count
        made.vflist.data.extend(map(_function_message, noun.functions))
    return made


def device_of(port: Port) -> PhysicalIo | None:
    """The device that a port of the node is; None: it lies over something else."""
    for message in ports.device_messages((port,)):
        noun = physical_io(message)
        return replace(noun, label=noun.label or port.name, port=port.name, rest=b"")
    return None


def rest_of_port(noun: PhysicalIo) -> bytes:
    """As `Port.rest_io` has it: the message less what a port models."""
    message = physical_io_message(noun)
    message.ClearField("ptype")
    for key in [key for key in message.phyaddrs if key.lower() == "ifname"]:
        del message.phyaddrs[key]
    return pack(message)


def adapter(message: config.Adapter) -> Adapter:
    return Adapter(
        name=message.name,
        type=int(message.type),
        function=_function(message.eth_vf) if message.HasField("eth_vf") else None,
        order=message.interface_order,
    )


def adapter_message(noun: Adapter) -> config.Adapter:
    made = config.Adapter(
        name=noun.name,
        type=cast("common.PhyIoType", noun.type),
        interface_order=noun.order,
    )
    if noun.function is not None:
        made.eth_vf.CopyFrom(_function_message(noun.function))
    return made


def _function(message: config.EthVF) -> FunctionSettings:
    return FunctionSettings(index=message.index, mac=message.mac, vlan=message.vlan_id)


def _function_message(noun: FunctionSettings) -> config.EthVF:
    return config.EthVF(index=noun.index, mac=noun.mac, vlan_id=noun.vlan)


def fill_adapters(
    into: Iterable[AdapterGroup], users: Mapping[str, AppId], message: info.ZInfoDevice
) -> None:
    """`users`: the app that has a group, by its name."""
    for group in into:
        message.assignableAdapters.append(bundle(group, users.get(group.name)))


def fill_assigned(
    groups: Iterable[AdapterGroup], users: Mapping[str, AppId], message: info.ZInfoApp
) -> None:
    """Of one app: what it has."""
    for group in groups:
        if users.get(group.name) == message.AppID:
            message.assignedAdapters.append(bundle(group, AppId(message.AppID)))


def bundle(group: AdapterGroup, user: AppId | None) -> info.ZioBundle:
    told = info.ZioBundle(
        type=cast("common.PhyIoType", group.type),
        name=group.name.removeprefix("/"),
        members=[member.phylabel or member.label for member in group.members[:_MOST_MEMBERS]],
        usedByAppUUID=user or "",
        usedByBaseOS=group.node,
        usage=cast("common.PhyIoMemberUsage", group.members[0].usage if group.members else 0),
    )
    for member in group.members[:_MOST_MEMBERS]:
        address = told.ioAddressList.add(macAddress=member.mac)
        if member.function is not None:
            address.macAddress = member.function.mac or member.mac
            address.vf_info.index = member.function.index
            address.vf_info.vlan_id = member.function.vlan
    why = trouble_of(group)
    if why:
        told.err.description = why
        told.err.severity = info.SEVERITY_WARNING if user else info.SEVERITY_NOTICE
    return told


def trouble_of(group: AdapterGroup) -> str:
    """What is wrong with a group, in words; that the node uses it is no trouble."""
    if group.trouble:
        return group.trouble
    if group.why_not and not group.node:
        return f"cannot assign {group.name.removeprefix('/')}: {group.why_not}"
    absent = next((member for member in group.members if member.absent), None)
    if absent is not None:
        return f"cannot find {absent.label}: {absent.absent}"
    return ""


def _addresses(given: Mapping[str, str]) -> Addresses:
    found: dict[str, str] = {}
    for key, value in given.items():
        field = _KEYS.get(key.lower())
        if field is not None:
            found[field] = value.strip()
    return Addresses(**found)
