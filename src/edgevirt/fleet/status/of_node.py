"""From a node's device info to the status of its EdgeNode. Pure.

Traps of the message are kept to: memory and storage count in MiB, the first of the software list
is what runs, a port's error without a description is no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from edgevirt.fleet.objects.base.object import Condition, set_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNodeStatus, NodeAddress
from edgevirt.fleet.status import health, of_adapters, of_system
from edgevirt.fleet.status.of_system import Wanted
from edgevirt.wire.messages import info

MEBI: Final = 1 << 20
MAX_ERRORS: Final = 20
ONLINE: Final = "Online"
OFFLINE: Final = "Offline"
UPDATING: Final = "Updating"
REBOOTING: Final = "Rebooting"
ERROR: Final = "Error"

_PHASES: Final = {
    info.ZDEVICE_STATE_BASEOS_UPDATING: UPDATING,
    info.ZDEVICE_STATE_REBOOTING: REBOOTING,
    info.ZDEVICE_STATE_BOOTING: REBOOTING,
    info.ZDEVICE_STATE_PREPARING_POWEROFF: REBOOTING,
    info.ZDEVICE_STATE_POWERING_OFF: REBOOTING,
    info.ZDEVICE_STATE_PREPARED_POWEROFF: REBOOTING,
    info.ZDEVICE_STATE_MAINTENANCE_MODE: ERROR,
}
_BOOT_REASON: Final = "BOOT_REASON_"
_SHORT: Final = {"OOM": "OOM", "CMD": "Command", "PID": "Pid"}
_MOST_WORDS: Final = 1_000
_MOST_STACK: Final = 16_000
"""Characters of a stack; its beginning tells most."""
_MAINTENANCE: Final = "MAINTENANCE_MODE_REASON_"


def fill(
    status: EdgeNodeStatus,
    device: info.ZInfoDevice,
    at: float,
    now: float,
    wanted: Wanted | None = None,
) -> EdgeNodeStatus:
    """`status` after the node reported `device` at `at` (its own time). `wanted`: the software that
    it should run.
    """
    errors = tuple(_errors(device))[:MAX_ERRORS]
    phase = _PHASES.get(device.state, ERROR if device.maintenance_mode else ONLINE)
    machine = device.minfo
    running = device.swList[0] if device.swList else info.ZInfoDevSW()
    filled = msgspec.structs.replace(
        status,
        phase=phase,
        last_info=timestamp(at) if at else timestamp(now),
        version=running.shortVersion,
        architecture=_architecture(device.machineArch),
        manufacturer=machine.manufacturer,
        product=machine.productName,
        serial=machine.serialNumber,
        hostname=device.HostName,
        cpus=device.ncpu,
        memory=device.memory * MEBI,
        storage=device.storage * MEBI,
        virtualization=_virtualization(device),
        boot_time=timestamp(device.bootTime.seconds) if device.HasField("bootTime") else None,
        boots=device.restartCounter,
        boot_reason=_boot_reason(device),
        reboot_reason=device.lastRebootReason[:_MOST_WORDS],
        reboot_stack=device.lastRebootStack[:_MOST_STACK],
        reboot_time=(
            timestamp(device.lastRebootTime.seconds) if device.lastRebootTime.seconds else None
        ),
        watchdog=device.hardware_watchdog_present,
        security_module=_security_module(device),
        port_config=health.source_of_ports(device.systemAdapter),
        os=of_system.fill(status.os, wanted, device, now),
        addresses=tuple(_addresses(device)),
        adapters=tuple(of_adapters.read(device)),
        errors=errors,
    )
    return msgspec.structs.replace(filled, conditions=_conditions(filled, device, now))


def _conditions(
    status: EdgeNodeStatus, device: info.ZInfoDevice, now: float
) -> tuple[Condition, ...]:
    ready = Condition(type="Ready", status="True", reason="Reporting")
    if status.phase == ERROR:
        why = ", ".join(_maintenance_reasons(device)) or "it says so"
        ready = Condition(
            type="Ready", status="False", reason="Maintenance", message=f"maintenance mode: {why}"
        )
    elif status.phase == REBOOTING:
        state = info.ZDeviceState.Name(device.state).removeprefix("ZDEVICE_STATE_").lower()
        ready = Condition(
            type="Ready", status="False", reason="Restarting", message=state.replace("_", " ")
        )
    told = (
        ready,
        Condition(type="Online", status="True", reason="Heard"),
        of_system.condition(status.os) if status.os is not None else None,
        health.ports_condition(device.systemAdapter),
        health.vault_condition(device.dataSecAtRestInfo),
    )
    conditions = status.conditions
    for condition in told:
        if condition is not None:
            conditions = set_condition(conditions, condition, now)
    if status.os is None or not status.os.version:
        conditions = tuple(c for c in conditions if c.type != "OSUpdated")
    return conditions


def want_os(status: EdgeNodeStatus, wanted: Wanted | None, now: float) -> EdgeNodeStatus:
    """`status` once it was decided what the node should run."""
    os = of_system.want(status.os, wanted, now)
    told = of_system.condition(os) if os is not None else None
    conditions = tuple(c for c in status.conditions if c.type != "OSUpdated" or told is not None)
    if told is not None:
        conditions = set_condition(conditions, told, now)
    return msgspec.structs.replace(status, os=os, conditions=conditions)


def silent(status: EdgeNodeStatus, seen: float, now: float) -> EdgeNodeStatus:
    """`status` of a node that was last heard of at `seen`, too long ago."""
    why = f"nothing was heard of the node since {timestamp(seen)}"
    conditions = status.conditions
    for type_, state in (("Ready", "Unknown"), ("Online", "False")):
        condition = Condition(type=type_, status=state, reason="Silent", message=why)  # type: ignore[arg-type]
        conditions = set_condition(conditions, condition, now)
    return msgspec.structs.replace(
        status, phase=OFFLINE, conditions=conditions, last_seen=timestamp(seen)
    )


def heard(status: EdgeNodeStatus, seen: float, now: float) -> EdgeNodeStatus:
    """`status` of a node that was heard of again; its next device info tells the rest."""
    conditions = set_condition(
        status.conditions, Condition(type="Online", status="True", reason="Heard"), now
    )
    ready = Condition(type="Ready", status="True", reason="Heard")
    conditions = set_condition(conditions, ready, now)
    return msgspec.structs.replace(
        status, phase=ONLINE, conditions=conditions, last_seen=timestamp(seen)
    )


def _virtualization(device: info.ZInfoDevice) -> str:
    if not device.HasField("capabilities"):
        return ""
    return "Hardware" if device.capabilities.HWAssistedVirtualization else "Emulated"


def _architecture(name: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(name, name)


def _boot_reason(device: info.ZInfoDevice) -> str:
    """`WatchdogHung` for `BOOT_REASON_WATCHDOG_HUNG`."""
    reason = device.last_boot_reason
    if not reason or reason not in info.BootReason.values():
        return ""
    words = info.BootReason.Name(reason).removeprefix(_BOOT_REASON).split("_")
    return "".join(_SHORT.get(word, word.capitalize()) for word in words)


def _security_module(device: info.ZInfoDevice) -> str:
    return device.HSMInfo[:_MOST_WORDS] or "TPM" if device.HSMStatus == info.ENABLED else ""


def _addresses(device: info.ZInfoDevice) -> Iterator[NodeAddress]:
    """Of the port config in use."""
    adapter = device.systemAdapter
    if adapter.currentIndex >= len(adapter.status):
        return
    for port in adapter.status[adapter.currentIndex].ports:
        for address in port.IPAddrs or [""]:
            yield NodeAddress(
                port=port.name or port.ifname, address=address, mac=port.macAddr, up=port.up
            )


def _maintenance_reasons(device: info.ZInfoDevice) -> Iterator[str]:
    known = info.MaintenanceModeReason.values()
    for reason in device.maintenance_mode_reasons:
        if reason in known:
            name = info.MaintenanceModeReason.Name(reason)
            yield name.removeprefix(_MAINTENANCE).lower().replace("_", " ")


def _errors(device: info.ZInfoDevice) -> Iterator[str]:
    adapter = device.systemAdapter
    if adapter.currentIndex and adapter.currentIndex < len(adapter.status):
        why = adapter.status[0].lastError or "it did not work"
        yield f"the node fell back to an earlier port config: {why}"
    if adapter.currentIndex < len(adapter.status):
        for port in adapter.status[adapter.currentIndex].ports:
            if port.err.description:
                yield f"port {port.name or port.ifname}: {port.err.description}"
    for software in device.swList:
        if software.swErr.description:
            yield f"version {software.shortVersion}: {software.swErr.description}"
    for vault in device.dataSecAtRestInfo.vaultList:
        if vault.vaultErr.description:
            yield f"vault {vault.name}: {vault.vaultErr.description}"
    for name, item in sorted(device.configItemStatus.configItems.items()):
        if item.error:
            yield f"property {name}: {item.error}"
    for name, item in sorted(device.configItemStatus.unknownConfigItems.items()):
        yield f"property {name}: {item.error or 'the node does not know it'}"
    for bundle in device.assignableAdapters:
        if bundle.err.description and bundle.usedByAppUUID:
            yield f"adapter group {bundle.name}: {bundle.err.description}"
    if device.attestation_info.error.description:
        yield f"attestation: {device.attestation_info.error.description}"
