"""What a node tells of itself: its device info and its hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from edgevirt.model.baseos import BaseOsStatus, Slot
from edgevirt.model.hardware import AdapterGroup, MachineDevices
from edgevirt.model.ids import AppId
from edgevirt.model.machine import Boot, BootReason, Inventory
from edgevirt.model.node import Property
from edgevirt.model.ports import DeviceNetworkStatus, PortConfigList
from edgevirt.model.trust import SecurityModule, VaultStatus
from edgevirt.wire.convert.hardware import fill_adapters
from edgevirt.wire.convert.hardware_inventory import fill_inventory
from edgevirt.wire.convert.port_report import fill_ports
from edgevirt.wire.convert.reports import stamp
from edgevirt.wire.convert.security import describe_module, fill_module, fill_vault
from edgevirt.wire.convert.software import software
from edgevirt.wire.messages import info

MEBI: Final = 1 << 20

CAPABILITY: Final = info.API_CAPABILITY_START_DELAY_IN_SECONDS
"""A level includes all below it, so this is the last one that holds without a gap."""


class NodeReport(msgspec.Struct, frozen=True):
    """Everything that device info says."""

    inventory: Inventory
    boot: Boot
    version: str
    slot: str = ""
    """Label of the one that the node runs from; empty: in host mode."""
    state: info.ZDeviceState = info.ZDEVICE_STATE_ONLINE
    slots: tuple[Slot, ...] = ()
    base_os: BaseOsStatus | None = None
    port_configs: PortConfigList = msgspec.field(default_factory=PortConfigList)
    network: DeviceNetworkStatus | None = None
    properties: Mapping[str, Property] = msgspec.field(default_factory=dict)
    unknown_properties: Mapping[str, Property] = msgspec.field(default_factory=dict)
    apps: tuple[tuple[str, str, str], ...] = ()
    """(id, name, domain name)."""
    reboot_counter: int = 0
    shutdown_counter: int = 0
    restarting: bool = False
    """A restart is decided."""
    maintenance: bool = False
    hardware_watchdog: bool = False
    root_hash: bytes = b""
    """SHA-256 of the root certificate's file."""
    attestation: info.AttestationState = info.ATTESTATION_STATE_UNSPECIFIED
    attestation_error: str = ""
    module: SecurityModule | None = None
    vault: VaultStatus | None = None
    device_name: str = ""
    project_name: str = ""
    acceleration: str = ""
    """As HostCapacity has it."""
    adapters: tuple[AdapterGroup, ...] = ()
    adapter_users: Mapping[str, AppId] = msgspec.field(default_factory=dict)
    """By the group's name."""
    devices: MachineDevices | None = None


def device(report: NodeReport) -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiDevice)
    dinfo = message.dinfo
    _fill_machine(dinfo, report.inventory)
    dinfo.swList.extend(
        software(report.slots, report.base_os, "" if report.slot else report.version)
    )
    _fill_boot(dinfo, report)
    fill_ports(dinfo.systemAdapter, report.port_configs, report.network)
    _fill_security(dinfo, report)
    fill_adapters(report.adapters, report.adapter_users, dinfo)
    status = dinfo.configItemStatus
    for items, known in (
        (status.configItems, report.properties),
        (status.unknownConfigItems, report.unknown_properties),
    ):
        for name, prop in known.items():
            items[name].value = prop.value
            items[name].error = prop.error
    for uuid, name, domain in report.apps:
        dinfo.appInstances.add(uuid=uuid, name=name, domainName=domain)
    dinfo.state = report.state
    dinfo.reboot_inprogress = report.state == info.ZDEVICE_STATE_REBOOTING or report.restarting
    dinfo.rebootConfigCounter = report.reboot_counter
    dinfo.shutdown_config_counter = report.shutdown_counter
    dinfo.api_capability = CAPABILITY
    dinfo.device_name = report.device_name
    dinfo.project_name = report.project_name
    if report.acceleration:
        dinfo.capabilities.SetInParent()  # emulation is said, and not only not denied
        dinfo.capabilities.HWAssistedVirtualization = report.acceleration in ("kvm", "xen")
    return message


def hardware(report: NodeReport) -> info.ZInfoMsg:
    message = info.ZInfoMsg(ztype=info.ZiHardware)
    hwinfo = message.hwinfo
    inventory = report.inventory
    hwinfo.eve_release = report.version
    hwinfo.kernel_version = inventory.kernel
    hwinfo.partition = next((slot.label for slot in report.slots if slot.current), "IMGA")
    hwinfo.inventory.total_memory_bytes = inventory.memory
    hwinfo.inventory.total_storage_bytes = inventory.storage
    hwinfo.inventory.bios.vendor = inventory.bios_vendor
    hwinfo.inventory.bios.version = inventory.bios_version
    if report.module is not None:
        describe_module(hwinfo.inventory.tpm, report.module)
    ports = report.network.ports if report.network is not None else ()
    macs = {port.ifname: port.mac for port in ports}
    fill_inventory(hwinfo.inventory, report.devices or MachineDevices(), macs)
    return message


def _fill_machine(dinfo: info.ZInfoDevice, inventory: Inventory) -> None:
    dinfo.machineArch = inventory.architecture
    dinfo.cpuArch = inventory.architecture
    dinfo.platform = inventory.product
    dinfo.ncpu = inventory.cpus
    dinfo.memory = inventory.memory // MEBI
    dinfo.storage = inventory.storage // MEBI
    dinfo.HostName = inventory.hostname
    dinfo.minfo.manufacturer = inventory.manufacturer
    dinfo.minfo.productName = inventory.product
    dinfo.minfo.version = inventory.product_version
    dinfo.minfo.serialNumber = inventory.serial
    dinfo.minfo.UUID = inventory.uuid
    dinfo.minfo.biosVendor = inventory.bios_vendor
    dinfo.minfo.biosVersion = inventory.bios_version
    dinfo.minfo.biosReleaseDate = inventory.bios_date


_STACK_MAX: Final = 8_000
"""Characters; a controller has no use for more, and a message has its bounds."""


def _reason(reason: BootReason) -> BootReason:
    """The wire has no word for the hardware's watchdog; the text beside it has."""
    return BootReason.WATCHDOG_HUNG if reason is BootReason.HARDWARE_WATCHDOG else reason


def _fill_boot(dinfo: info.ZInfoDevice, report: NodeReport) -> None:
    boot = report.boot
    dinfo.bootTime.CopyFrom(stamp(boot.at))
    dinfo.restartCounter = boot.count
    dinfo.lastRebootReason = boot.text
    dinfo.last_boot_reason = cast("info.BootReason", int(_reason(boot.reason)))
    dinfo.lastRebootStack = boot.stack[:_STACK_MAX]
    dinfo.baseos_update_counter = report.base_os.retry_counter if report.base_os else 0
    dinfo.hardware_watchdog_present = report.hardware_watchdog
    dinfo.maintenance_mode = report.maintenance
    if boot.ended:
        dinfo.lastRebootTime.CopyFrom(stamp(boot.ended))


def _fill_security(dinfo: info.ZInfoDevice, report: NodeReport) -> None:
    fill_module(dinfo, report.module)
    fill_vault(dinfo.dataSecAtRestInfo, report.vault)
    dinfo.sec_info.sha_root_ca = report.root_hash
    dinfo.attestation_info.state = report.attestation
    if report.attestation_error:
        dinfo.attestation_info.error.description = report.attestation_error
