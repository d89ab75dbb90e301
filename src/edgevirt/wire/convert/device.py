"""The whole config of a node: both ways.

Lists keep their order, but physical devices that a port uses come before those that none does.
"""

from __future__ import annotations

import math
from typing import Final

from edgevirt.model.ids import NodeId
from edgevirt.model.node import DeviceConfig
from edgevirt.wire.convert import (
    access,
    apps,
    baseos,
    contents,
    hardware,
    networks,
    port_networks,
    ports,
)
from edgevirt.wire.convert.rest import copy_without, forget, identity, leave, pack, restore, unpack
from edgevirt.wire.messages import config

_ITEM_FIELDS: Final = ("key", "value")
_NANO: Final = 1_000_000_000


def from_message(message: config.EdgeDevConfig) -> DeviceConfig:
    """Raises ConvertError for what this node could not obey."""
    found, devices = ports.ports(message.systemAdapterList, message.deviceIoList)
    rest = _rest(message)
    return DeviceConfig(
        id=NodeId(identity(message.id.uuid, "config")),
        version=message.id.version,
        timestamp=_seconds(message),
        epoch=message.controller_epoch,
        properties=tuple((item.key, item.value) for item in message.configItems),
        reboot_counter=message.reboot.counter if message.HasField("reboot") else None,
        shutdown_counter=message.shutdown.counter if message.HasField("shutdown") else None,
        datastores=tuple(map(contents.datastore, message.datastores)),
        content_trees=tuple(map(contents.content_tree, message.contentInfo)),
        volumes=tuple(map(contents.volume, message.volumes)),
        network_instances=tuple(map(networks.network_instance, message.networkInstances)),
        apps=tuple(map(apps.app, message.apps)),
        ports=found,
        devices=tuple(map(hardware.physical_io, devices)),
        base_os=baseos.base_os(message.baseos) if message.HasField("baseos") else None,
        networks=tuple(map(port_networks.port_network, _own_networks(message))),
        cipher_contexts=tuple(map(contents.cipher_context, message.cipherContexts)),
        access=access.access(message.edgeview) if message.HasField("edgeview") else None,
        controller_cert_hash=message.controllercert_confighash,
        device_name=message.device_name,
        project_name=message.project_name,
        rest=pack(rest),
    )


def to_message(noun: DeviceConfig) -> config.EdgeDevConfig:
    message = unpack(config.EdgeDevConfig, noun.rest)
    message.id.uuid = noun.id
    message.id.version = noun.version
    message.controller_epoch = noun.epoch
    if noun.timestamp != _seconds(message):
        _stamp(message, noun.timestamp)
    items = (config.ConfigItem(key=key, value=value) for key, value in noun.properties)
    restore(message.configItems, _ITEM_FIELDS, items)
    _fill_counters(message, noun)
    message.datastores.extend(map(contents.datastore_message, noun.datastores))
    message.contentInfo.extend(map(contents.content_tree_message, noun.content_trees))
    message.volumes.extend(map(contents.volume_message, noun.volumes))
    message.networkInstances.extend(map(networks.network_instance_message, noun.network_instances))
    message.apps.extend(map(apps.app_message, noun.apps))
    _fill_ports(message, noun)
    if noun.base_os is not None:
        message.baseos.CopyFrom(baseos.base_os_message(noun.base_os))
    message.cipherContexts.extend(map(contents.cipher_context_message, noun.cipher_contexts))
    if noun.access is not None:
        message.edgeview.CopyFrom(access.access_message(noun.access))
    message.controllercert_confighash = noun.controller_cert_hash
    message.device_name = noun.device_name
    message.project_name = noun.project_name
    return message


def _rest(message: config.EdgeDevConfig) -> config.EdgeDevConfig:
    rest = copy_without(
        message,
        *("controller_epoch", "configItems", "datastores", "contentInfo", "volumes"),
        *("networkInstances", "apps", "systemAdapterList", "cipherContexts", "deviceIoList"),
        *("controllercert_confighash", "device_name", "project_name", "baseos", "networks"),
        "edgeview",
    )
    forget(rest, ("id",), ("uuid", "version"))
    forget(rest, ("reboot", "shutdown"), ("counter",))
    for counter in ("reboot", "shutdown"):
        if rest.HasField(counter) and not getattr(rest, counter).ByteSize():
            rest.ClearField(counter)
    if _carries(message):
        rest.ClearField("config_timestamp")
    leave(message.configItems, _ITEM_FIELDS, rest.configItems)
    return rest


def _own_networks(message: config.EdgeDevConfig) -> list[config.NetworkConfig]:
    """Less the one that only says what a port without a network has."""
    usual = ports.dhcp_network()
    return [network for network in message.networks if network != usual]


def _fill_counters(message: config.EdgeDevConfig, noun: DeviceConfig) -> None:
    if noun.reboot_counter is None:
        message.ClearField("reboot")
    else:
        message.reboot.counter = noun.reboot_counter
        message.reboot.SetInParent()
    if noun.shutdown_counter is None:
        message.ClearField("shutdown")
    else:
        message.shutdown.counter = noun.shutdown_counter
        message.shutdown.SetInParent()


def _fill_ports(message: config.EdgeDevConfig, noun: DeviceConfig) -> None:
    adapters = [ports.adapter_message(port) for port in noun.ports]
    message.systemAdapterList.extend(adapters)
    message.deviceIoList.extend(ports.device_messages(noun.ports))
    message.deviceIoList.extend(map(hardware.physical_io_message, noun.devices))
    message.networks.extend(map(port_networks.port_network_message, noun.networks))
    if any(adapter.networkUUID == ports.DHCP_NETWORK for adapter in adapters):
        message.networks.append(ports.dhcp_network())


def _seconds(message: config.EdgeDevConfig) -> float:
    stamp = message.config_timestamp
    return stamp.seconds + stamp.nanos / _NANO


def _carries(message: config.EdgeDevConfig) -> bool:
    """Whether a float says the timestamp to the nanosecond; otherwise the rest keeps it too."""
    again = config.EdgeDevConfig()
    _stamp(again, _seconds(message))
    return again.config_timestamp == message.config_timestamp


def _stamp(message: config.EdgeDevConfig, seconds: float) -> None:
    whole = math.floor(seconds)
    message.config_timestamp.seconds = whole
    message.config_timestamp.nanos = round((seconds - whole) * _NANO)
