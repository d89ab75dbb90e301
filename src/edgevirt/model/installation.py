"""The nouns of an installation: what a disk holds, what the installer is told, what it decides."""

from __future__ import annotations

import enum

import msgspec


class Holds(enum.Enum):
    """What stands on a disk, as far as it decides whether it may be written over."""

    NOTHING = "nothing"
    UNFINISHED = "an installation that was not finished"
    NODE = "an installed node"
    INSTALLER = "an installer"
    OLD_TABLE = "an MBR partition table"
    PARTITIONS = "partitions that are not a node's"
    CONTENT = "something without a partition table"

    @property
    def is_free(self) -> bool:
        """Nothing is lost when it is written over."""
        return self in {Holds.NOTHING, Holds.UNFINISHED}


class DiskFacts(msgspec.Struct, frozen=True, rename="camel"):
    """A whole disk. `size`: bytes; `sector`: bytes of a logical one.

    content    what it holds, in words for people: `an ext4 file system`.
    removable  a stick or a card.
    used       by this very system: the medium that it was started from.
    """

    name: str
    size: int
    sector: int = 512
    model: str = ""
    serial: str = ""
    removable: bool = False
    read_only: bool = False
    used: bool = False
    holds: Holds = Holds.NOTHING
    content: str = ""


class Order(msgspec.Struct, frozen=True):
    """What the installer was told. Disks are names without `/dev/`; empty: not told."""

    disk: str = ""
    persist: str = ""
    erase: frozenset[str] = msgspec.field(default_factory=frozenset)
    erase_all: bool = False
    server: str = ""
    soft_serial: str = ""
    restart: bool = False
    pause_before: bool = False
    pause_after: bool = False
    record_only: bool = False


class Plan(msgspec.Struct, frozen=True):
    """`disk`: gets the system. `persist`: gets the data; mostly the same.

    erase   other disks whose content goes, because that was told.
    """

    disk: str
    persist: str
    erase: tuple[str, ...] = ()


class Carried(msgspec.Struct, frozen=True):
    """The root image that an installer brings, as it says itself. `size`: bytes; `sha256`: hex."""

    version: str
    size: int
    sha256: str


class Nic(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    mac: str
    driver: str = ""


class Record(msgspec.Struct, frozen=True, rename="camel"):
    """What an installer writes down for who manages the node. `memory`: bytes; `at`: UTC.

    soft_serial          by which the node is known besides the serial of its hardware.
    server               that it will ask.
    root_certificate     SHA-256 of what it trusts, `onboarding_certificate`: of what it shows: hex.
    device_certificate   SHA-256 of that of the node which it was before, as its TPM remembers: the
                         node will be the same again.
    """

    at: str
    version: str
    outcome: str
    serial: str
    soft_serial: str
    manufacturer: str
    product: str
    architecture: str
    cpus: int
    cpu_model: str
    memory: int
    firmware: str
    tpm: str
    watchdog: bool
    disks: tuple[DiskFacts, ...]
    nics: tuple[Nic, ...]
    server: str = ""
    root_certificate: str = ""
    onboarding_certificate: str = ""
    device_certificate: str = ""
