"""Apps and what connects them to networks: both ways."""

from __future__ import annotations

from typing import Final, cast

from edgevirt.model.access import Vnc
from edgevirt.model.app import AppInstance, Resources, VolumeRef
from edgevirt.model.domain import BootMode, BootOrder, VirtualizationMode
from edgevirt.model.ids import AppId, NetworkInstanceId, VolumeId
from edgevirt.model.network import Acl, AclAction, AppInterface
from edgevirt.wire.convert import hardware
from edgevirt.wire.convert.contents import fill_cipher_block, take_cipher_block
from edgevirt.wire.convert.rest import (
    ConvertError,
    copy_without,
    enum_of,
    forget,
    identity,
    leave,
    pack,
    reference,
    restore,
    unpack,
)
from edgevirt.wire.convert.snapshots import fill_wish, forget_wish, wish
from edgevirt.wire.errors import Reason
from edgevirt.wire.messages import common, config

_VOLUME_FIELDS: Final = ("uuid", "generationCount", "mount_dir")
_ADAPTER_FIELDS: Final = ("name", "type", "eth_vf", "interface_order")
_MATCH_FIELDS: Final = ("type", "value")
_ACTION_FIELDS: Final = (
    *("drop", "limit", "limitrate", "limitunit", "limitburst", "portmap", "appPort"),
)


def app(message: config.AppInstanceConfig) -> AppInstance:
    what = f"app {message.uuidandversion.uuid}"
    rest = _app_rest(message)
    block = take_cipher_block(rest)
    machine = message.fixedresources
    return AppInstance(
        id=AppId(identity(message.uuidandversion.uuid, what)),
        name=message.displayname,
        version=message.uuidandversion.version,
        activate=message.activate,
        resources=_resources(machine, what),
        volumes=tuple(
            VolumeRef(
                volume=VolumeId(reference(ref.uuid)),
                generation=ref.generationCount,
                mount_dir=ref.mount_dir,
            )
            for ref in message.volumeRefList
        ),
        interfaces=tuple(interface(part, what) for part in message.interfaces),
        adapters=tuple(map(hardware.adapter, message.adapters)),
        restart_counter=message.restart.counter,
        purge_counter=message.purge.counter,
        user_data=message.userData,
        cipher=block,
        delay=message.start_delay_in_seconds,
        disable_logs=machine.disableLogs,
        profiles=tuple(message.profile_list),
        snapshot=wish(message.snapshot),
        rest=pack(rest),
    )


def _app_rest(message: config.AppInstanceConfig) -> config.AppInstanceConfig:
    rest = copy_without(
        message,
        *("displayname", "fixedresources", "activate", "interfaces", "adapters", "userData"),
        *("volumeRefList", "profile_list", "start_delay_in_seconds"),
    )
    forget(rest, ("uuidandversion",), ("uuid", "version"))
    forget(rest, ("restart", "purge"), ("counter",))
    forget_wish(message, rest)
    leave(message.volumeRefList, _VOLUME_FIELDS, rest.volumeRefList)
    modelled = ((one, hardware.adapter_message(hardware.adapter(one))) for one in message.adapters)
    if any(pack(one) != pack(said) for one, said in modelled):
        rest.adapters.extend(message.adapters)
    return rest


def app_message(noun: AppInstance) -> config.AppInstanceConfig:
    message = unpack(config.AppInstanceConfig, noun.rest)
    message.uuidandversion.uuid = noun.id
    message.uuidandversion.version = noun.version
    message.displayname = noun.name
    message.activate = noun.activate
    message.fixedresources.CopyFrom(_resources_message(noun.resources))
    message.fixedresources.disableLogs = noun.disable_logs
    restore(message.volumeRefList, _VOLUME_FIELDS, map(_volume_ref_message, noun.volumes))
    message.interfaces.extend(map(interface_message, noun.interfaces))
    restore(message.adapters, _ADAPTER_FIELDS, map(hardware.adapter_message, noun.adapters))
    if noun.restart_counter or message.HasField("restart"):
        message.restart.counter = noun.restart_counter
    if noun.purge_counter or message.HasField("purge"):
        message.purge.counter = noun.purge_counter
    message.userData = noun.user_data
    if noun.cipher is not None:
        fill_cipher_block(message.cipherData, noun.cipher)
    message.start_delay_in_seconds = noun.delay
    message.profile_list.extend(noun.profiles)
    fill_wish(message, noun.snapshot)
    return message


def _volume_ref_message(noun: VolumeRef) -> config.VolumeRef:
    return config.VolumeRef(
        uuid=noun.volume, generationCount=noun.generation, mount_dir=noun.mount_dir
    )


def _resources(message: config.VmConfig, what: str) -> Resources:
    """No processors at all means one: an app that asks for none still has to run."""
    rest = copy_without(
        message,
        *("memory", "maxmem", "vcpus", "virtualizationMode", "disableLogs"),
        *("boot_mode", "vmm_maxmem", "kernel", "ramdisk", "extraargs", "pin_cpu"),
        *("disable_vtpm", "enforce_network_interface_order", "boot_order"),
    )
    vnc = None
    if message.enable_vnc:
        vnc = Vnc(display=message.vncDisplay, password=message.vncPasswd)
        for name in ("enable_vnc", "vncDisplay", "vncPasswd"):
            rest.ClearField(name)
    return Resources(
        memory_kib=message.memory,
        max_memory_kib=message.maxmem,
        vcpus=message.vcpus or 1,
        mode=enum_of(VirtualizationMode, message.virtualizationMode, what),
        boot_mode=enum_of(BootMode, message.boot_mode, what),
        boot_order=enum_of(BootOrder, message.boot_order, what),
        ordered=message.enforce_network_interface_order,
        vmm_memory_kib=message.vmm_maxmem,
        kernel=message.kernel,
        ramdisk=message.ramdisk,
        kernel_arguments=message.extraargs,
        vnc=vnc,
        dedicated=message.pin_cpu,
        tpm=not message.disable_vtpm,
        rest=pack(rest),
    )


def _resources_message(noun: Resources) -> config.VmConfig:
    message = unpack(config.VmConfig, noun.rest)
    message.memory = noun.memory_kib
    message.maxmem = noun.max_memory_kib
    message.vcpus = noun.vcpus
    message.virtualizationMode = cast("config.VmMode", int(noun.mode))
    message.boot_mode = cast("config.VmBootMode", int(noun.boot_mode))
    message.boot_order = cast("common.BootOrder", int(noun.boot_order))
    message.enforce_network_interface_order = noun.ordered
    message.vmm_maxmem = noun.vmm_memory_kib
    message.kernel = noun.kernel
    message.ramdisk = noun.ramdisk
    message.extraargs = noun.kernel_arguments
    if noun.vnc is not None:
        message.enable_vnc = True
        message.vncDisplay = noun.vnc.display
        message.vncPasswd = noun.vnc.password
    message.pin_cpu = noun.dedicated
    message.disable_vtpm = not noun.tpm
    return message


def interface(message: config.NetworkAdapter, what: str) -> AppInterface:
    rest = copy_without(
        message, "name", "networkId", "macAddress", "addr", "acls", "interface_order"
    )
    return AppInterface(
        name=message.name,
        network=NetworkInstanceId(reference(message.networkId)),
        mac=message.macAddress.strip().lower(),
        ip=message.addr.strip(),
        acls=tuple(acl(rule, what) for rule in message.acls),
        order=message.interface_order,
        rest=pack(rest),
    )


def interface_message(noun: AppInterface) -> config.NetworkAdapter:
    message = unpack(config.NetworkAdapter, noun.rest)
    message.name = noun.name
    message.networkId = noun.network
    message.macAddress = noun.mac
    message.addr = noun.ip
    message.acls.extend(map(acl_message, noun.acls))
    message.interface_order = noun.order
    return message


def acl(message: config.ACE, what: str) -> Acl:
    """A rule has one action; none means that what matches may pass."""
    if len(message.actions) > 1:
        raise ConvertError(
            Reason.MALFORMED,
            f"cannot read {what}: access rule {message.id} has {len(message.actions)} actions",
        )
    rest = copy_without(message, "id", "matches")
    leave(message.matches, _MATCH_FIELDS, rest.matches)
    for left in rest.actions:
        before = left.ByteSize()
        for name in _ACTION_FIELDS:
            left.ClearField(name)
        if before and not left.ByteSize():
            del rest.actions[:]
    action = message.actions[0] if message.actions else config.ACEAction()
    return Acl(
        id=message.id,
        matches=tuple((match.type, match.value) for match in message.matches),
        action=_action_of(action, f"{what}: access rule {message.id}"),
        app_port=action.appPort,
        limit_rate=action.limitrate,
        limit_unit=action.limitunit,
        limit_burst=action.limitburst,
        rest=pack(rest),
    )


def acl_message(noun: Acl) -> config.ACE:
    message = unpack(config.ACE, noun.rest)
    message.id = noun.id
    restore(
        message.matches,
        _MATCH_FIELDS,
        (config.ACEMatch(type=kind, value=value) for kind, value in noun.matches),
    )
    built = config.ACEAction(
        drop=noun.action is AclAction.DROP,
        limit=noun.action is AclAction.LIMIT,
        portmap=noun.action is AclAction.PORTMAP,
        appPort=noun.app_port,
        limitrate=noun.limit_rate,
        limitunit=noun.limit_unit,
        limitburst=noun.limit_burst,
    )
    if message.actions:
        message.actions[0].MergeFrom(built)
    elif built.ByteSize():
        message.actions.append(built)
    return message


def _action_of(message: config.ACEAction, what: str) -> AclAction:
    chosen = [
        action
        for action, is_set in (
            (AclAction.DROP, message.drop),
            (AclAction.LIMIT, message.limit),
            (AclAction.PORTMAP, message.portmap),
        )
        if is_set
    ]
    if len(chosen) > 1:
        raise ConvertError(Reason.MALFORMED, f"cannot read {what}: {' and '.join(chosen)} at once")
    return chosen[0] if chosen else AclAction.ALLOW
