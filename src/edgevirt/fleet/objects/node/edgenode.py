"""EdgeNode: one edge computer."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.base.amounts import check_counter
from edgevirt.fleet.objects.base.columns import AGE, NAME, Column, condition_status, since
from edgevirt.fleet.objects.base.object import (
    ApiObject,
    ApiStruct,
    Condition,
    LocalRef,
    Time,
)
from edgevirt.fleet.objects.base.problems import (
    Problem,
    invalid,
    required,
)
from edgevirt.fleet.objects.node.adapter import NodeAdapter
from edgevirt.fleet.objects.node.held_config import HeldConfig
from edgevirt.fleet.objects.node.os import NodeOS, NodeOSStatus, check_os
from edgevirt.fleet.objects.node.port import NodePort, check_ports
from edgevirt.fleet.objects.node.trust import NodeTrust
from edgevirt.fleet.objects.software.registers import check_registers
from edgevirt.model.quantity import human

_LONGEST_MARK = 64


class EdgeNodeSpec(ApiStruct, frozen=True, kw_only=True):
    """What the node should be."""

    serial: str = ""
    """Serial number of the hardware, by which the machine is known when it first calls."""
    soft_serial: str = ""
    """Serial number that was given at installation."""
    onboarding_key_ref: LocalRef | None = None
    """The only OnboardingKey by which the machine may come in; absent: any of the project."""
    activate: bool = True
    """Whether the node may work; when false its apps are halted and it gets an empty config."""
    properties: dict[str, str] = msgspec.field(default_factory=dict)
    """The node's config properties, such as `timer.config.interval`: `"60"`."""
    ports: tuple[NodePort, ...] = ()
    """Physical ports; empty: one uplink `eth0` with DHCP."""
    os: NodeOS | None = None
    """The software that it should run; absent: whatever it has."""
    hardware_model: str = ""
    """The HardwareModel that says which devices of it apps may have; empty: none."""
    trusted_registers: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By the number of a TPM's register: values, in hex, that are accepted of this node besides
    those of its AttestationPolicy."""
    reboot_counter: int = 0
    """Raise it to reboot the node once."""
    shutdown_counter: int = 0
    """Raise it to shut the node's apps down once."""
    overwrite_config: str = ""
    """The `mark` of `status.heldConfig`: lets the config go that is held back because the node has
    a newer one than this fleet knows of. The node deletes what isn't in it."""


class NodeAddress(ApiStruct, frozen=True, kw_only=True):
    """An address of the node."""

    port: str = ""
    """The port that has it."""
    address: str = ""
    """The address."""
    mac: str = ""
    """Hardware address of the port."""
    up: bool = False
    """Whether the port has a link."""


class AppSummary(ApiStruct, frozen=True, kw_only=True):
    """How many apps of the node are in which state."""

    total: int = 0
    """Apps that are meant for the node."""
    running: int = 0
    """Apps that run."""
    failed: int = 0
    """Apps with an error."""


class EdgeNodeStatus(ApiStruct, frozen=True, kw_only=True):
    """The fleet's view of the node's last report."""

    conditions: tuple[Condition, ...] = ()
    """`Enrolled`, `Online`, `Ready`, `ConfigApplied`, `OSUpdated`, `PortsAsWanted`, `VaultOpen`,
    `Attested`."""
    node_id: str = msgspec.field(default="", name="nodeID")
    """The node's UUID on the nodes' API."""
    phase: str = ""
    """In one word: `Pending`, `Online`, `Offline`, `Updating`, `Rebooting`, `Error`."""
    device_certificate: str = ""
    """The node's certificate, in PEM."""
    fingerprint: str = ""
    """SHA-256 of the node's certificate, in hex."""
    onboarding_key: str = ""
    """The OnboardingKey by which it came in."""
    enrolled_at: Time | None = None
    """When the machine became this node."""
    last_seen: Time | None = None
    """When it last asked or reported; written at most once a minute while it is online."""
    last_info: Time | None = None
    """When it last told its state as a whole."""
    version: str = ""
    """Version of the software that it runs."""
    architecture: str = ""
    """`amd64`, `arm64`."""
    manufacturer: str = ""
    """Of the machine."""
    product: str = ""
    """Of the machine."""
    serial: str = ""
    """As the machine itself reports it."""
    hostname: str = ""
    """Name of the machine."""
    cpus: int = 0
    """Number of CPUs."""
    memory: int = 0
    """Bytes of memory."""
    storage: int = 0
    """Bytes of storage for apps and data."""
    virtualization: str = ""
    """How it runs virtual machines: `Hardware` (its processor does), `Emulated` (some ten times
    slower), or empty: it doesn't say."""
    boot_time: Time | None = None
    """When it booted."""
    boots: int = 0
    """How often it has booted."""
    boot_reason: str = ""
    """Why it booted the last time, in one word: `Update`, `Fallback`, `WatchdogHung`…"""
    reboot_reason: str = ""
    """The same in the node's own words."""
    reboot_stack: str = ""
    """What was at work when it went down: a stack, or the last lines of the console."""
    reboot_time: Time | None = None
    """When it went down."""
    watchdog: bool = False
    """Whether a hardware watchdog looks after it."""
    security_module: str = ""
    """The TPM that its keys are in, in the node's words; empty: none."""
    port_config: str = ""
    """Where the port config in use comes from: `fleet`, `bootstrap`, `override`, `manual`,
    `last resort`."""
    os: NodeOSStatus | None = None
    """The software that it runs, and how far an update is."""
    addresses: tuple[NodeAddress, ...] = ()
    """Addresses of its ports."""
    adapters: tuple[NodeAdapter, ...] = ()
    """Its devices by group, and who has them."""
    apps: AppSummary = AppSummary()
    """Its apps in numbers."""
    trust: str = ""
    """How far it is believed: `Attested`, `SoftwareKey` (no TPM), `Untrusted`."""
    attestation: NodeTrust | None = None
    """What it proved the last time, and how that was judged."""
    config_version: str = ""
    """Version of the config that the fleet wants."""
    config_hash: str = ""
    """Hash of the config that the node last took."""
    held_config: HeldConfig | None = None
    """Why it gets no config for now; absent: it does."""
    errors: tuple[str, ...] = ()
    """What it complains of."""


class EdgeNode(ApiObject, frozen=True, kw_only=True):
    """One edge computer."""

    spec: EdgeNodeSpec = EdgeNodeSpec()
    """What it should be."""
    status: EdgeNodeStatus = EdgeNodeStatus()
    """What it is."""


def validate(node: EdgeNode) -> Iterator[Problem]:
    spec = node.spec
    if not (spec.serial or spec.soft_serial):
        yield required("spec.serial", "give the machine's serial, its softSerial, or both")
    for name, value in spec.properties.items():
        if not name or any(c.isspace() for c in name):
            yield invalid(f"spec.properties[{name}]", name, "must be a property's name")
        if len(value) > 4096:
            yield invalid(f"spec.properties[{name}]", value, "must have at most 4096 characters")
    yield from check_counter("spec.rebootCounter", spec.reboot_counter)
    yield from check_counter("spec.shutdownCounter", spec.shutdown_counter)
    if len(spec.overwrite_config) > _LONGEST_MARK:
        yield invalid("spec.overwriteConfig", spec.overwrite_config, "is no mark of a held config")
    if spec.os is not None:
        yield from check_os("spec.os", spec.os, spec.properties)
    yield from check_registers("spec.trustedRegisters", spec.trusted_registers)
    yield from check_ports(spec.ports)


def _addresses(node: EdgeNode, _now: float) -> str:
    return ",".join(a.address for a in node.status.addresses if a.address) or "<none>"


def _apps(node: EdgeNode, _now: float) -> str:
    return f"{node.status.apps.running}/{node.status.apps.total}"


def _state(node: EdgeNode, _now: float) -> str:
    phase = node.status.phase or "Pending"
    return f"{phase},Held" if node.status.held_config is not None else phase


def _update(node: EdgeNode, _now: float) -> str:
    """In one word; the status has more."""
    os = node.status.os
    return (os.step if os is not None else "") or "<none>"


COLUMNS = (
    NAME,
    Column("Serial", lambda n, _: n.spec.serial or n.spec.soft_serial or "<none>"),
    Column("State", _state, description="The node in one word, and whether its config is held"),
    Column("Ready", lambda n, _: condition_status(n.status.conditions, "Ready")),
    Column("Apps", _apps, description="Running and all apps"),
    Column("Last Seen", lambda n, now: since(n.status.last_seen, now)),
    Column("Version", lambda n, _: n.status.version or "<none>", priority=1),
    Column("Update", _update, priority=1, description="How far it is to the wanted version"),
    Column("Trust", lambda n, _: n.status.trust or "<none>", priority=1),
    Column("Addresses", _addresses, priority=1),
    Column("CPUs", lambda n, _: n.status.cpus, "integer", priority=1),
    Column("Memory", lambda n, _: human(n.status.memory), priority=1),
    AGE,
)
