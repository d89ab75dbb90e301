"""Every kind on a node: who owns it is declared by the controllers, who may read it here."""

from __future__ import annotations

from edgevirt.model import (
    access,
    app,
    baseos,
    content,
    domain,
    hardware,
    network,
    node,
    ports,
    snapshot,
    sriov,
    trust,
    volume,
)
from edgevirt.runtime.resource import Kind

DATASTORE = Kind("Datastore", content.Datastore, readers=frozenset({"trust", "downloader"}))
CREDENTIALS = Kind("Credentials", content.Credentials, readers=frozenset({"downloader"}))
CONTENT_TREE = Kind("ContentTree", content.ContentTree)
CONTENT_TREE_STATUS = Kind("ContentTreeStatus", content.ContentTreeStatus, report=True)
TAG_REQUEST = Kind("TagRequest", content.TagRequest)
TAG_ANSWER = Kind("TagAnswer", content.TagAnswer, report=True)
BLOB_REQUEST = Kind("BlobRequest", content.BlobRequest)
BLOB_DOWNLOAD = Kind("BlobDownload", content.BlobDownload, report=True)
BLOB_CLAIM = Kind("BlobClaim", content.BlobClaim, persistent=True)
BLOB_STATUS = Kind("BlobStatus", content.BlobStatus, report=True)

VOLUME = Kind("Volume", volume.Volume)
VOLUME_STATUS = Kind("VolumeStatus", volume.VolumeStatus, report=True)
STORAGE_USE = Kind("StorageUse", volume.StorageUse, report=True)

NETWORK_INSTANCE = Kind("NetworkInstance", network.NetworkInstance)
NETWORK_INSTANCE_STATUS = Kind("NetworkInstanceStatus", network.NetworkInstanceStatus, report=True)
APP_NETWORK = Kind("AppNetwork", network.AppNetwork)
APP_NETWORK_STATUS = Kind("AppNetworkStatus", network.AppNetworkStatus, report=True)
NETWORK_METRIC = Kind("NetworkMetric", network.NetworkMetric, report=True)

APP_INSTANCE = Kind("AppInstance", app.AppInstance, readers=frozenset({"trust", "apps", "logs"}))
APP_SECRET = Kind("AppSecret", app.AppSecret, readers=frozenset({"domains"}))
APP_INSTANCE_STATUS = Kind("AppInstanceStatus", app.AppInstanceStatus, persistent=True, report=True)
APP_INSTANCE_APPLIED = Kind(
    "AppInstanceApplied", app.AppInstanceApplied, persistent=True, readers=frozenset({"apps"})
)
VOLUME_USE = Kind("VolumeUse", app.VolumeUse)
SNAPSHOT = Kind("Snapshot", snapshot.Snapshot)
SNAPSHOT_STATUS = Kind("SnapshotStatus", snapshot.SnapshotStatus, report=True)
MACHINE_STATE = Kind("MachineState", snapshot.MachineState, report=True)
DOMAIN = Kind("Domain", domain.Domain, readers=frozenset({"domains"}))
DOMAIN_STATUS = Kind("DomainStatus", domain.DomainStatus, report=True)
DOMAIN_EXIT = Kind("DomainExit", domain.DomainExit, readers=frozenset({"domains"}), report=True)
HOST_CAPACITY = Kind("HostCapacity", domain.HostCapacity, report=True)
DOMAIN_METRIC = Kind("DomainMetric", domain.DomainMetric, report=True)

PHYSICAL_IO = Kind("PhysicalIo", hardware.PhysicalIo)
MACHINE_DEVICES = Kind("MachineDevices", hardware.MachineDevices, report=True)
ADAPTER_GROUP = Kind("AdapterGroup", hardware.AdapterGroup, report=True)
CARD_STATUS = Kind("CardStatus", sriov.CardStatus, readers=frozenset({"domains"}), report=True)
ADAPTER_USE = Kind("AdapterUse", hardware.AdapterUse, report=True)

BASE_OS = Kind("BaseOs", baseos.BaseOs)
BASE_OS_STATUS = Kind("BaseOsStatus", baseos.BaseOsStatus, report=True)
SLOT = Kind("Slot", baseos.Slot, report=True)
NODE_REBOOT = Kind("NodeReboot", baseos.NodeReboot, report=True)
SLOT_PLAN = Kind("SlotPlan", baseos.SlotPlan, readers=frozenset({"baseos"}), report=True)
SLOTS_FOUND = Kind("SlotsFound", baseos.SlotsFound, readers=frozenset({"baseos"}), report=True)
UPDATE_MEMORY = Kind(
    "UpdateMemory", baseos.UpdateMemory, persistent=True, readers=frozenset({"baseos"})
)
UPDATE_TEST = Kind("UpdateTest", baseos.UpdateTest, readers=frozenset({"baseos"}), report=True)
UPDATE_TIMES = Kind(
    "UpdateTimes",
    baseos.UpdateTimes,
    persistent=True,
    readers=frozenset({"baseos"}),
    report=True,
)

IDENTITY = Kind("Identity", node.Identity)
SIGN_REQUEST = Kind("SignRequest", node.SignRequest, readers=frozenset({"trust"}))
SIGNATURE = Kind("Signature", node.Signature, readers=frozenset({"agent"}))
SECURITY_MODULE = Kind("SecurityModule", trust.SecurityModule, report=True)
QUOTE_REQUEST = Kind("QuoteRequest", trust.QuoteRequest, readers=frozenset({"trust"}))
QUOTE = Kind("Quote", trust.Quote, readers=frozenset({"agent"}))
VAULT_STATUS = Kind("VaultStatus", trust.VaultStatus, report=True)
ESCROW_KEY = Kind("EscrowKey", trust.EscrowKey, readers=frozenset({"agent"}), report=True)
CONTROLLER_VAULT_KEY = Kind(
    "ControllerVaultKey",
    trust.ControllerVaultKey,
    readers=frozenset({"trust"}),
    report=True,
)
CONTROLLER_CERTIFICATES = Kind("ControllerCertificates", node.ControllerCertificates)
CIPHER_CONTEXT = Kind("CipherContext", node.CipherContext)
DEVICE_CONFIG = Kind("DeviceConfig", node.DeviceConfig, readers=frozenset({"agent"}))
REPAIR_CONFIG = Kind("RepairConfig", node.DeviceConfig, report=True, readers=frozenset({"agent"}))
"""What a controller offers while it bars the node. Key: node."""
ACCESS_CONFIG = Kind("AccessConfig", access.AccessConfig, readers=frozenset({"access"}))
PORT = Kind("Port", node.Port)
PORT_CONFIG = Kind("PortConfig", ports.PortConfig, report=True)
"""A report in that nobody waits for it: without a word of the agent the node needs its ports too,
and what it once said stays in force."""
PORT_OVERRIDE = Kind("PortOverride", ports.PortConfig, report=True)
"""What somebody at the machine brings. Key: source."""
GIVEN_PROPERTIES = Kind("GivenProperties", node.GivenProperties, report=True)
"""Of the bootstrap config. Key: node."""
PORT_CONFIG_LIST = Kind("PortConfigList", ports.PortConfigList, persistent=True, report=True)
DEVICE_NETWORK_STATUS = Kind("DeviceNetworkStatus", ports.DeviceNetworkStatus, report=True)
LED_STATUS = Kind("LedStatus", ports.LedStatus, report=True)
AGENT_STATUS = Kind("AgentStatus", node.AgentStatus, report=True)
PROPERTY = Kind("Property", node.Property)
LOG_BUNDLE = Kind("LogBundle", node.LogBundle)
LOG_UPLOAD = Kind("LogUpload", node.LogUpload)
SERVICE_STATUS = Kind("ServiceStatus", node.ServiceStatus, report=True)
