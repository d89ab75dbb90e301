"""The node itself: its identity, its config as a whole, and how it fares."""

from __future__ import annotations

import enum

from edgevirt.model.access import AccessConfig
from edgevirt.model.app import AppInstance
from edgevirt.model.base import Noun, Trouble
from edgevirt.model.baseos import BaseOs
from edgevirt.model.content import ContentTree, Datastore
from edgevirt.model.hardware import PhysicalIo
from edgevirt.model.ids import NodeId
from edgevirt.model.network import NetworkInstance
from edgevirt.model.ports import ETHERNET, PortNetwork
from edgevirt.model.volume import Volume


class CipherContext(Noun, frozen=True, kw_only=True):
    """Key: id. Which two keys make the key of the cipher blocks that name it."""

    id: str
    controller_cert_hash: bytes
    device_cert_hash: bytes
    rest: bytes = b""


class Port(Noun, frozen=True, kw_only=True):
    """A physical port and its use by the node (PhysicalIO and SystemAdapter of one name)."""

    name: str
    ifname: str = ""
    uplink: bool = True
    cost: int = 0
    network: str = ""
    """UUID of a PortNetwork; empty: DHCP."""
    address: str = ""
    """Static address, without a prefix."""
    type: int = ETHERNET
    """`PhyIoType` of the wire."""
    rest_io: bytes = b""
    rest_adapter: bytes = b""


class DeviceConfig(Noun, frozen=True, kw_only=True):
    """The whole desired state of one node: `EdgeDevConfig`, parsed once. Missing means delete.

    `rest` is the message less the fields that are modelled, so that nothing is lost on the way
    back; so are the `rest` of its parts.
    """

    id: NodeId
    version: str = ""
    timestamp: float = 0.0
    epoch: int = 0
    properties: tuple[tuple[str, str], ...] = ()
    reboot_counter: int | None = None
    shutdown_counter: int | None = None
    datastores: tuple[Datastore, ...] = ()
    content_trees: tuple[ContentTree, ...] = ()
    volumes: tuple[Volume, ...] = ()
    network_instances: tuple[NetworkInstance, ...] = ()
    apps: tuple[AppInstance, ...] = ()
    ports: tuple[Port, ...] = ()
    devices: tuple[PhysicalIo, ...] = ()
    """Those that no port is."""
    base_os: BaseOs | None = None
    networks: tuple[PortNetwork, ...] = ()
    cipher_contexts: tuple[CipherContext, ...] = ()
    access: AccessConfig | None = None
    controller_cert_hash: str = ""
    device_name: str = ""
    project_name: str = ""
    rest: bytes = b""


class Identity(Noun, frozen=True, kw_only=True):
    """The node's public identity. Key: `node`. trust → all. PEM texts.

    `quote_cert`: of the key that signs quotes; empty: the node has no security module.
    `endorsement_cert`: of the module's maker, where there is one, with its TPM2B_PUBLIC.
    """

    device_cert: str
    ecdh_cert: str
    quote_cert: str = ""
    endorsement_cert: str = ""
    endorsement_public: bytes = b""
    onboarding_cert: str = ""
    serial: str = ""
    soft_serial: str = ""


class SigningKey(enum.StrEnum):
    DEVICE = "device"
    ONBOARDING = "onboarding"


class SignRequest(Noun, frozen=True, kw_only=True):
    """Key: any. agent → trust alone. `digest`: SHA-256 of the payload, 32 bytes."""

    key: SigningKey
    digest: bytes


class Signature(Noun, frozen=True, kw_only=True):
    """Key: as the request's. trust → agent alone. `rs`: r‖s, 64 bytes; empty: `why` not."""

    rs: bytes
    why: str = ""


class ControllerCertificates(Noun, frozen=True, kw_only=True):
    """The controller's verified list. Key: `controller`. agent → trust. PEM, as delivered."""

    signing: str
    ecdh: tuple[tuple[bytes, str], ...] = ()
    """(cert hash, PEM)."""


class AgentState(enum.StrEnum):
    STARTING = "starting"
    ONBOARDING = "onboarding"
    ONLINE = "online"
    OFFLINE = "offline"


class Fault(enum.StrEnum):
    """What kind of trouble the line to the controller has; the trouble itself says it in words."""

    NONE = ""
    UNREACHABLE = "unreachable"
    CERTIFICATES = "certificates"
    """Those that the controller published do not lead to the node's root certificate."""
    SIGNATURE = "signature"
    """An answer is not the controller's."""
    CONFLICT = "conflict"
    """Another node has its serial."""
    UNKNOWN = "unknown"
    """The controller does not know the node."""
    REFUSED = "refused"


class Operation(Noun, frozen=True, kw_only=True):
    """Something that the whole node is to do, once per counter. agent → supervisor."""

    what: str
    """`reboot` or `shutdown`."""
    counter: int
    why: str
    at: float
    """When it was asked for."""


class AgentStatus(Noun, frozen=True, kw_only=True):
    """Key: `node`. How the line to the controller is."""

    state: AgentState
    since: float
    node: NodeId | None = None
    controller: str = ""
    config_hash: str = ""
    config_from: str = ""
    """`controller` or `checkpoint`."""
    last_contact: float = 0.0
    attested: bool = False
    refused: bool = False
    """The controller answers, but gives no config: it wants the node attested first."""
    operation: Operation | None = None
    trouble: Trouble | None = None
    fault: Fault = Fault.NONE


class Property(Noun, frozen=True, kw_only=True):
    """A config property as it applies. Key: its name. `error`: why the wanted value isn't used."""

    value: str
    error: str = ""


class GivenProperties(Noun, frozen=True, kw_only=True):
    """Config properties that a node was given for the time before its first config."""

    items: tuple[tuple[str, str], ...] = ()
    """(name, value), not judged."""


class LogBundle(Noun, frozen=True, kw_only=True):
    """A gzip file that waits for upload. Key: file name. logs → agent; gone when acknowledged."""

    path: str
    app: str = ""
    """App id; empty: the node's own."""
    created: float = 0.0
    size: int = 0


class LogUpload(Noun, frozen=True, kw_only=True):
    """What the controller said of a bundle. Key: as LogBundle. agent → logs."""

    accepted: bool
    why: str = ""


class ServiceStatus(Noun, frozen=True, kw_only=True):
    """Key: service name. supervisor → all."""

    pid: int
    since: float
    starts: int = 1
    last_exit: str = ""
    """Why it ended the last time, in words."""
    waits: str = ""
    """What must be before it is started, in words."""
    memory_bytes: int = 0
