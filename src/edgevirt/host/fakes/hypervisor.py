"""A hypervisor without a machine: for tests of what uses one. Passes the real ones' suite.

Its domains run no image: the first word of `cmd` names one of the `Program`s here.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import socket
from dataclasses import dataclass, field

from msgspec.structs import replace

from edgevirt.host.hypervisor import DomainInfo, Exit, HypervisorError, UnfitError
from edgevirt.model.access import ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.domain import DiskStatus, Domain, DomainMetric, DomainVolume, VirtualizationMode
from edgevirt.model.ids import AppId
from edgevirt.runtime import Clock


class Program(enum.StrEnum):
    RUN = "run"
    """Runs until it is asked to end."""
    STUBBORN = "stubborn"
    """Hears the request to end, and doesn't."""
    DEAF = "deaf"
    """Has no way to hear it."""
    EXIT = "exit"
    """Ends at once, with the code in the second word."""
    HOG = "hog"
    """Takes all memory until the kernel ends it."""


@dataclass
class _Running:
    domain: Domain
    user_data: bytes
    info: DomainInfo
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass
class FakeMachine:
    """What outlives an adapter. `failures`: the next calls of `create` that fail, with why."""

    domains: dict[AppId, _Running] = field(default_factory=dict)
    failures: list[HypervisorError] = field(default_factory=list)
    boot_seconds: float = 0.0
    """What `create` takes."""
    stuck: str = ""
    """Why no disk of it can grow."""
    missing: dict[AppId, tuple[str, ...]] = field(default_factory=dict)
    """What `attend` says."""
    watch_fails: bool = False
    """Ends are not announced: `wait_exit` raises."""
    log: list[str] = field(default_factory=list)
    """Each effect, in order: `create <app>`, `start <app>`, `stop …`, `delete …`."""
    consoles: dict[AppId, socket.socket] = field(default_factory=dict)
    """The guest's ends of the serial consoles that somebody is attached to."""
    pids: itertools.count[int] = field(default_factory=lambda: itertools.count(100))

    def finish(self, app: AppId, code: int, *, out_of_memory: bool = False) -> None:
        """The domain ends by itself."""
        self._end(app, SwState.HALTED, Exit(code, out_of_memory))

    def lose(self, app: AppId) -> None:
        """What watches over the domain is killed."""
        self._end(app, SwState.BROKEN, None)

    def _end(self, app: AppId, state: SwState, how: Exit | None) -> None:
        running = self.domains[app]
        running.info = replace(running.info, state=state, pid=0, exit=how)
        running.ended.set()


@dataclass(frozen=True)
class FakeHypervisor:
    machine: FakeMachine
    clock: Clock
    modes: frozenset[VirtualizationMode] = frozenset({VirtualizationMode.NOHYPER})

    async def create(self, domain: Domain, user_data: bytes) -> None:
        await self.delete(domain.app)
        if self.machine.failures:
            raise self.machine.failures.pop(0)
        if not domain.volumes:
            raise UnfitError("cannot run: no volume")
        if not domain.image.cmd or domain.image.cmd[0] not in list(Program):
            raise UnfitError("cannot create the container: no such command")
        self.machine.log.append(f"create {domain.app}")
        await self.clock.sleep(self.machine.boot_seconds)
        pid = next(self.machine.pids)
        info = DomainInfo(domain.app, domain.name, domain.generation, SwState.BOOTING, pid)
        self.machine.domains[domain.app] = _Running(domain, user_data, info)

    async def start(self, app: AppId) -> DomainInfo:
        running = self.machine.domains.get(app)
        if running is None:
            raise HypervisorError(f"cannot start {app}: it was not created")
        self.machine.log.append(f"start {app}")
        started = self.clock.now()
        running.info = replace(running.info, state=SwState.RUNNING, started=started)
        info = running.info
        program, *arguments = running.domain.image.cmd
        if program == Program.EXIT:
            self.machine.finish(app, int(arguments[0]))
        elif program == Program.HOG:
            self.machine.finish(app, 137, out_of_memory=True)
        return info

    async def stop(self, app: AppId, *, graceful: float, forced: float) -> None:
        running = self.machine.domains.get(app)
        if running is None or running.info.pid == 0:
            return
        self.machine.log.append(f"stop {app}")
        match running.domain.image.cmd[0]:
            case Program.RUN:
                self.machine.finish(app, 0)
            case Program.STUBBORN:
                await self.clock.sleep(graceful)
                self.machine.finish(app, 137)
            case _:
                self.machine.finish(app, 137)

    async def delete(self, app: AppId) -> None:
        running = self.machine.domains.pop(app, None)
        if running is not None:
            self.machine.log.append(f"delete {app}")
            if (console := self.machine.consoles.pop(app, None)) is not None:
                console.close()
            running.ended.set()

    async def info(self, app: AppId) -> DomainInfo | None:
        running = self.machine.domains.get(app)
        return None if running is None else running.info

    async def list(self) -> tuple[DomainInfo, ...]:
        return tuple(running.info for _, running in sorted(self.machine.domains.items()))

    async def wait_exit(self, app: AppId) -> DomainInfo | None:
        if self.machine.watch_fails:
            raise HypervisorError(f"cannot watch {app}: no more watches")
        running = self.machine.domains.get(app)
        if running is not None:
            await running.ended.wait()
        return await self.info(app)

    async def attend(self, domain: Domain) -> tuple[str, ...]:
        return self.machine.missing.get(domain.app, ())

    async def grow(self, domain: Domain) -> tuple[DiskStatus, ...]:
        return tuple(self._grow(domain.app, one) for one in domain.volumes if one.size)

    def _grow(self, app: AppId, disk: DomainVolume) -> DiskStatus:
        sizes = self.machine.domains[app].sizes
        told = sizes.get(disk.path, 0)
        why = "cannot grow a disk that its app only reads, while that runs" if disk.readonly else ""
        why = why or self.machine.stuck
        if told >= disk.size or why:
            return DiskStatus(path=disk.path, size=told, why="" if told >= disk.size else why)
        self.machine.log.append(f"grow {app}")
        sizes[disk.path] = disk.size
        return DiskStatus(path=disk.path, size=disk.size)

    async def metrics(self, app: AppId) -> DomainMetric | None:
        running = self.machine.domains.get(app)
        if running is None or running.info.state != SwState.RUNNING:
            return None
        limit = running.domain.memory_kib * 1024
        return DomainMetric(at=self.clock.now(), cpu_ns=1, memory_bytes=4096, memory_limit=limit)

    async def attach(
        self, app: AppId, console: ConsoleKind, *, password: str = ""
    ) -> socket.socket:
        running = self.machine.domains.get(app)
        if running is None or running.info.state != SwState.RUNNING:
            raise HypervisorError(f"cannot attach to {app}: it does not run")
        if console is not ConsoleKind.SERIAL:
            raise UnfitError(f"cannot attach to {app}: it has no screen")
        ours, self.machine.consoles[app] = socket.socketpair()
        return ours
