"""The machine under the node, as measured: what it is, how much of it is in use, how it started.

Sizes are in bytes and times in seconds since 1970, unless they say otherwise.
"""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun
from edgevirt.model.network import InterfaceCounters


class Inventory(Noun, frozen=True, kw_only=True):
    """What does not change while the node runs."""

    architecture: str
    """As `uname -m` has it."""
    cpus: int
    memory: int
    storage: int
    hostname: str = ""
    kernel: str = ""
    manufacturer: str = ""
    product: str = ""
    product_version: str = ""
    serial: str = ""
    uuid: str = ""
    bios_vendor: str = ""
    bios_version: str = ""
    bios_date: str = ""


class DiskUse(Noun, frozen=True, kw_only=True):
    """A mounted file system, or (with an empty `mount`) a block device."""

    device: str
    mount: str = ""
    total: int = 0
    used: int = 0
    free: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class Measures(Noun, frozen=True, kw_only=True):
    """What changes all the time. Counters are cumulative since boot."""

    at: float
    uptime: float
    """Seconds."""
    cpu_ns: int = 0
    """Of all processors, idle time aside."""
    memory_total: int = 0
    memory_available: int = 0
    services_memory: int = 0
    services_limit: int = 0
    disks: tuple[DiskUse, ...] = ()
    counters: tuple[InterfaceCounters, ...] = ()
    """Of the node's own ports."""


class BootReason(enum.IntEnum):
    """`BootReason` of the wire."""

    UNSPECIFIED = 0
    FIRST = 1
    REBOOT_COMMAND = 2
    UPDATE = 3
    FALLBACK = 4
    DISCONNECT = 5
    FATAL = 6
    OOM = 7
    WATCHDOG_HUNG = 8
    WATCHDOG_PID = 9
    KERNEL = 10
    POWER_FAIL = 11
    UNKNOWN = 12
    VAULT_FAILED = 13
    POWEROFF_COMMAND = 14
    HARDWARE_WATCHDOG = 16
    """EVE has it, the wire does not."""

    @property
    def crash(self) -> bool:
        """The run before ended by something that its config may have brought about."""
        return self in _CRASHES


_CRASHES = frozenset(
    {
        BootReason.FIRST,
        BootReason.FALLBACK,
        BootReason.FATAL,
        BootReason.OOM,
        BootReason.WATCHDOG_HUNG,
        BootReason.WATCHDOG_PID,
        BootReason.VAULT_FAILED,
        BootReason.HARDWARE_WATCHDOG,
    }
)


class Boot(Noun, frozen=True, kw_only=True):
    """The node's present start. supervisor → agent, as a file."""

    at: float
    count: int = 1
    """Starts since the node was installed."""
    reason: BootReason = BootReason.FIRST
    """Why the run before ended."""
    text: str = ""
    stack: str = ""
    """What helps to find out why: stacks of a hung service, the kernel's last words."""
    slot: str = ""
    """Label of the slot that runs; in host mode empty."""
    ended: float = 0.0
    """When the run before ended; 0: unknown."""
