"""The table of services: who each one is on this machine, and what it may do.

What is not named in a row is not there: no capability, no network, no file, no program to start.
The kernel holds every service to its row (`host.rights.confine`).
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from edgevirt.host.rights.confine import CAPABILITIES
from edgevirt.host.rights.seccomp import Profile
from edgevirt.model.disk import Label
from edgevirt.node.service import Service
from edgevirt.runtime.graph import Entry, Format, graph

_MEBI: Final = 1 << 20


class WithVault(enum.Enum):
    """What a service has to do with the vault."""

    NOTHING = "nothing"
    """Starts at once: with a closed vault the node is still reachable, and says why."""
    WAITS = "waits"
    """Starts when the vault is open."""
    STARTS_ANEW = "starts anew"
    """Starts at once, and once more when the vault is open: then it may see into it."""
    HEARS = "hears"
    """Starts when the vault is open or has said that it stays closed; in that case once more when
    it opens after all. So what the operating system needs is done without it."""


class Row(msgspec.Struct, frozen=True):
    """One service's rights.

    uid           its user and its group.
    groups        services whose group it is in too, to read what they left for it.
    capabilities  that it keeps, without `CAP_`; programs that it starts have them too.
    network       whether it is in the node's network; otherwise in an empty one.
    profile       the class of system calls that it keeps.
    memory        bound of its control group, in bytes.
    reads, writes names of Paths that it may reach; None: whatever its user may.
    partitions    of the boot disk, by label, that it may write to; the one that runs: read.
    umask         077, or 027 where a group of its files' readers is meant.
    vault         what it has to do with the vault.
    """

    name: str
    module: str
    uid: int
    groups: tuple[str, ...] = ()
    capabilities: frozenset[str] = frozenset()
    network: bool = False
    profile: Profile = Profile.CLOSED
    no_new_privileges: bool = True
    memory: int = 96 * _MEBI
    reads: tuple[str, ...] | None = ()
    writes: tuple[str, ...] | None = ()
    partitions: tuple[str, ...] = ()
    umask: int = 0o077
    vault: WithVault = WithVault.NOTHING


_MACHINE_WIDE: Final = frozenset(
    {"SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "SYS_TIME", "SYS_PACCT", "SYSLOG", "WAKE_ALARM"}
    | {"BLOCK_SUSPEND", "MAC_ADMIN", "MAC_OVERRIDE", "AUDIT_CONTROL", "AUDIT_READ", "PERFMON"}
)
"""Capabilities over the machine itself, which making domains doesn't take."""

_UNPACKING: Final = frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP"})
"""What gives files the owners, modes and attributes that an image says."""

_NETWORKING: Final = frozenset(
    {"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SYS_ADMIN"}  # interfaces and their namespaces
    | {"CHOWN", "SETUID", "SETGID", "KILL"}  # dnsmasq as a user of its own
)

ROWS: Final = (
    Row(
        "agent", "edgevirt.node.agent", 64101,
        groups=("logs",),
        network=True,
        memory=160 * _MEBI,
        reads=("config", "boot_record", "newlog"),
        writes=("checkpoint",),
    ),
    Row(
        "trust", "edgevirt.node.trust", 64102,
        reads=("config", "measured", "firmware_log"),
        writes=("keys", "vaults", "tpm"),
    ),
    Row(
        "downloader", "edgevirt.node.downloader", 64103,
        network=True,
        memory=256 * _MEBI,
        writes=("downloads", "system_downloads"),
        umask=0o027,
        vault=WithVault.HEARS,
    ),
    Row(
        "verifier", "edgevirt.node.verifier", 64104,
        groups=("downloader",),
        capabilities=_UNPACKING,
        memory=256 * _MEBI,
        writes=(
            *("downloads", "blobs", "layers"),
            *("system_downloads", "system_blobs", "system_layers"),
        ),
        umask=0o027,
        vault=WithVault.HEARS,
    ),
    Row(
        "volumes", "edgevirt.node.volumes", 64105,
        groups=("verifier",),
        # the last is less than what it has, and all that a program gets which packs layers
        capabilities=frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "DAC_READ_SEARCH"}),
        profile=Profile.SPAWNING,
        memory=256 * _MEBI,
        reads=("blobs", "layers"),
        writes=("volumes", "packed"),
        umask=0o027,
        vault=WithVault.HEARS,
    ),
    Row("apps", "edgevirt.node.apps", 64106),
    Row(
        "baseos", "edgevirt.node.baseos", 64110,
        groups=("verifier",),
        reads=("boot_record", "system_blobs"),
        partitions=(Label.ESP, Label.IMGA, Label.IMGB),
    ),
    Row(
        "networks", "edgevirt.node.networks", 64107,
        capabilities=_NETWORKING,
        network=True,
        profile=Profile.MOUNTING,
        memory=160 * _MEBI,
        reads=None,
        writes=None,
        umask=0o022,
    ),
    Row(
        "logs", "edgevirt.node.logs", 64108,
        groups=("agent",),
        capabilities=frozenset({"DAC_READ_SEARCH"}),  # consoles are readable by root alone
        reads=("console_logs",),
        writes=("newlog", "service_logs"),  # what was read is freed
        umask=0o027,
        vault=WithVault.STARTS_ANEW,
    ),
    Row("supervisor", "edgevirt.node.supervisor", 64109),
    Row(
        "ports", "edgevirt.node.ports", 64120,
        capabilities=frozenset({"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"}),  # and DHCP
        network=True,
        profile=Profile.SPAWNING,
        reads=("config",),
        writes=("ports", "names", "ingested"),
        umask=0o022,  # everybody looks names up
    ),
    # reaches nothing of the machine but its network: consoles are handed to it, one by one
    Row("access", "edgevirt.node.access", 64122, network=True, reads=("config",)),
    Row(
        "console", "edgevirt.node.console", 64121,
        capabilities=frozenset({"DAC_OVERRIDE"}),  # terminals and sticks are root's
        profile=Profile.SPAWNING,  # mtools
        reads=("config",),
        writes=("console", "devices", "device_settings"),
        umask=0o022,
    ),
    Row(
        "domains", "edgevirt.node.domains", 0,
        capabilities=frozenset(CAPABILITIES) - _MACHINE_WIDE,
        network=True,
        profile=Profile.RUNTIME,
        no_new_privileges=False,  # containers inherit it, and their programs may be setuid
        memory=256 * _MEBI,
        reads=None,
        writes=None,
        umask=0o022,
        vault=WithVault.WAITS,
    ),
)  # fmt: skip
"""`supervisor` is the small process that speaks for the supervisor in the store."""


def row_of(name: str) -> Row:
    for row in ROWS:
        if row.name == name:
            return row
    raise KeyError(f"no service is named {name}")


def load(row: Row) -> Service:
    """Imports the service. Raises ImportError; ValueError when the module holds another one."""
    service: Service = importlib.import_module(row.module).SERVICE
    if service.name != row.name:
        raise ValueError(f"{row.module} holds {service.name}, not {row.name}")
    return service


def uid_names(rows: Iterable[Row] = ROWS) -> Mapping[int, str]:
    """Which service each user is."""
    return {row.uid: row.name for row in rows}


def owners(services: Iterable[Service]) -> Mapping[str, str]:
    """By kind name, the service that must serve it. Raises ValueError when two own one."""
    found: dict[str, str] = {}
    for service in services:
        for kind in service.owns:
            if found.setdefault(kind.name, service.name) != service.name:
                raise ValueError(f"{kind.name} is owned by {found[kind.name]} and {service.name}")
    return found


def print_graph(services: Iterable[Service], form: Format = "text") -> str:
    """Who reads and who owns which kind."""
    entries: list[Entry] = [(service.name, service.reads, service.owns) for service in services]
    return graph(entries, form)
