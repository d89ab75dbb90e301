"""What a service of the node is: what it reads, what it owns, and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from edgevirt.node.paths import Paths
from edgevirt.runtime import Clock, Kind, Store


class Context(msgspec.Struct, frozen=True):
    """What a service gets to work with.

    `store` admits only the kinds that the service declared; `settings` are the node's own
    (from the command line), the same for all services.
    """

    name: str
    store: Store
    clock: Clock
    paths: Paths
    settings: Settings


class Settings(msgspec.Struct, frozen=True):
    """How this node runs, set once at its start."""

    serial: str = ""
    """Hardware serial; in host mode a soft one."""
    uplink: str = "eth0"
    """The interface towards the controller."""
    cgroup: str = "eve"
    """Root of the node's cgroup tree, relative to each hierarchy's mount."""
    host_mode: bool = True
    pace: float = 1.0
    """What pauses between questions to the controller are multiplied by."""
    version: str = ""
    """Of the operating system that runs; in host mode empty."""
    slot: str = ""
    """Label of the slot that it runs from; in host mode empty."""
    disk: str = ""
    """The disk that it was booted from: `/dev/vda`; in host mode empty."""
    partitions: tuple[tuple[str, str], ...] = ()
    """(label, device) of those of its disk; in host mode none."""
    notes: tuple[str, ...] = ()
    """What the start of the machine found out, for the log."""
    lost: str = ""
    """«cannot X: why»: what the node should keep, it cannot; nothing is kept in this run."""


class Service(msgspec.Struct, frozen=True):
    """One service: one folder, one process. `run` never returns by itself."""

    name: str
    reads: tuple[Kind[Any], ...]
    owns: tuple[Kind[Any], ...]
    run: Callable[[Context], Coroutine[Any, Any, None]]
