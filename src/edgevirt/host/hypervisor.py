"""What a node asks of whatever runs its domains: a container runtime, QEMU, Xen.

One Protocol, one adapter per kind. Callers never ask which kind they talk to; they pick it once,
by the virtualization modes that it serves.
"""

from __future__ import annotations

import socket
from typing import Protocol

import msgspec

from edgevirt.model.access import ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.domain import DiskStatus, Domain, DomainMetric, VirtualizationMode
from edgevirt.model.ids import AppId


class HypervisorError(Exception):
    """«cannot X: why». The machine's fault or a passing one: worth another try."""


class UnfitError(HypervisorError):
    """The domain as it is specified can never run here. No use trying again."""


class Exit(msgspec.Struct, frozen=True):
    """How a domain ended by itself."""

    code: int
    """Of its first process; 128 + signal when one killed it."""
    out_of_memory: bool = False
    why: str = ""
    """«cannot X: why», where the domain itself said so."""


class DomainInfo(msgspec.Struct, frozen=True):
    """A domain as the machine knows it.

    `state`: BOOTING (created, not started), RUNNING, HALTED (it ended: `exit` tells how), or
    BROKEN (half made, or what watched over it is gone: nothing to do but delete it).
    """

    app: AppId
    name: str
    generation: int
    state: SwState
    pid: int = 0
    started: float = 0.0
    """Wall clock; 0: not yet."""
    exit: Exit | None = None
    remark: str = ""
    """What of its spec it does without, in words."""


class Hypervisor(Protocol):
    """Domains of one kind on this machine. At most one per app.

    They outlive this object and its process: another one of the same configuration finds them
    with `list` and `info`. Calls for one app must not overlap, except `info`, `wait_exit` and
    `metrics`. All may raise HypervisorError; where it says so, UnfitError.
    """

    @property
    def modes(self) -> frozenset[VirtualizationMode]: ...

    async def create(self, domain: Domain, user_data: bytes) -> None:
        """Makes all that the domain needs, and the domain itself; nothing of the app runs yet.

        What an earlier domain of the app left is removed first. `user_data`: clear, decoded.
        When it fails nothing remains. Raises UnfitError.
        """
        ...

    async def start(self, app: AppId) -> DomainInfo:
        """Lets a created domain run. Raises UnfitError, e.g. when there is no such command."""
        ...

    async def stop(self, app: AppId, *, graceful: float, forced: float) -> None:
        """Asks the domain to end, after `graceful` seconds ends it; returns when it has ended.

        A domain that cannot hear the request is ended at once. Raises HypervisorError when it
        is still there after `forced` more seconds. No domain, or one that ended: no effect.
        """
        ...

    async def delete(self, app: AppId) -> None:
        """Removes the domain and all that was made for it; ends it if it runs. Idempotent.

        Volumes keep what was written to them.
        """
        ...

    async def info(self, app: AppId) -> DomainInfo | None: ...

    async def list(self) -> tuple[DomainInfo, ...]:
        """What is there on the machine, half made domains included."""
        ...

    async def wait_exit(self, app: AppId) -> DomainInfo | None:
        """Returns as soon as the domain is no longer running; None when there is none."""
        ...

    async def attend(self, domain: Domain) -> tuple[str, ...]:
        """Gives a running domain those of its devices that were plugged in meanwhile.

        What is missing, in words.
        """
        ...

    async def grow(self, domain: Domain) -> tuple[DiskStatus, ...]:
        """Gives the disks of a running domain the `size` that they are to have, of each that has
        one in `domain`; what became of them. Does nothing to one that is as big. Idempotent.
        """
        ...

    async def metrics(self, app: AppId) -> DomainMetric | None:
        """None when there is no running domain."""
        ...

    async def attach(
        self, app: AppId, console: ConsoleKind, *, password: str = ""
    ) -> socket.socket:
        """A connection to a console of a running domain, the caller's to close.

        The domain runs on whether somebody reads there or not; but what is read slowly may be
        written slowly. `password`: what VNC asks for; empty: nothing. Raises UnfitError where a
        domain of this kind has no such console.
        """
        ...
