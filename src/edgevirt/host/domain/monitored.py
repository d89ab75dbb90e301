"""Domains that are processes with a conmon each: containers and virtual machines alike.

conmon is each one's parent: it keeps the console, and writes down how the process ended. So a
domain outlives this process, and another one of the same configuration takes over.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.container.bundle import Bundle, Record
from edgevirt.host.devices.handover import Handover
from edgevirt.host.devices.protocol import DeviceError, Devices
from edgevirt.host.domain.monitor import Conmon
from edgevirt.host.domain.processors import Partition
from edgevirt.host.hypervisor import DomainInfo, Exit, HypervisorError, UnfitError
from edgevirt.host.processes import Process
from edgevirt.model.access import ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.domain import DiskStatus, Domain, DomainMetric, DomainVolume, VirtualizationMode
from edgevirt.model.hardware import MachineDevices
from edgevirt.model.ids import AppId
from edgevirt.runtime import Clock

_EXIT_SECONDS = 2.0
"""How long conmon may take to write down an end before it counts as stuck."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


class MonitoredHypervisor(ABC):
    """`directory`: its own, gone with the machine's run. `consoles`: a file `<app>.log` each.

    `apps` and `monitors`: control groups, one below each for every app; `partition`: instead of
    the first, for those that have processors of their own. `devices`: the machine's.
    `conmon`: starts a domain's process, and watches over it.
    """

    modes: frozenset[VirtualizationMode]

    def __init__(
        self,
        directory: Path,
        consoles: Path,
        conmon: Conmon,
        *,
        apps: str,
        monitors: str,
        partition: Partition,
        devices: Devices,
        clock: Clock,
    ) -> None:
        self._devices = devices
        self._handover = Handover(devices)
        self._directory = directory
        self._consoles = consoles
        self._conmon = conmon
        self._apps = apps
        self._monitors = monitors
        self._partition = partition
        self._clock = clock

    # -- what a kind of domains has of its own --

    @abstractmethod
    def _build(self, bundle: Bundle, domain: Domain, user_data: bytes) -> str:
        """Makes what the domain stands on; a remark, if it is less than was asked for.

        Blocks. Raises HypervisorError, UnfitError, OSError.
        """

    @abstractmethod
    async def _begin(self, bundle: Bundle) -> None:
        """Lets the domain run whose process conmon made."""

    @abstractmethod
    async def _forget(self, bundle: Bundle) -> None:
        """Takes away what was made besides files and processes. Idempotent."""

    @abstractmethod
    async def _ask_to_end(self, bundle: Bundle, process: Process) -> bool:
        """False: it cannot hear that."""

    async def attend(self, domain: Domain) -> tuple[str, ...]:
        """Nothing comes and goes."""
        return ()

    async def _grow(self, bundle: Bundle, disk: DomainVolume) -> None:
        """Of a domain that runs: gives a disk, which it may write to, `size` bytes if it has less.
        Idempotent. Raises HypervisorError, UnfitError.
        """
        raise UnfitError(f"cannot grow a disk of a {self._conmon.what} that runs")

    async def _attach(self, bundle: Bundle, console: ConsoleKind, password: str) -> socket.socket:
        """Of a domain that runs. Raises HypervisorError, UnfitError."""
        raise UnfitError(f"cannot attach: a {self._conmon.what} has no console; its log is all")

    def _judge(self, bundle: Bundle, exit: Exit) -> tuple[SwState, Exit]:
        """HALTED: that end was the app's own; BROKEN: not. And how the app itself ended.

        `exit`: of the process.
        """
        return SwState.HALTED, exit

    # -- the same for all --

    async def create(self, domain: Domain, user_data: bytes) -> None:
        bundle = self._bundle(domain.app)
        await self.delete(domain.app)
        try:
            remark = await asyncio.to_thread(self._prepare, bundle, domain, user_data)
            console, group = self._consoles / f"{domain.app}.log", self._monitor_group(domain.app)
            process, monitor = await self._conmon.create(bundle, console, group)
        except (HypervisorError, OSError) as failure:
            with suppress(HypervisorError):  # the first failure is the one to tell
                await self.delete(domain.app)
            if isinstance(failure, HypervisorError):
                raise
            raise HypervisorError(f"cannot create {domain.name}: {failure}") from failure
        bundle.write_record(
            Record(
                name=domain.name,
                generation=domain.generation,
                process=process,
                monitor=monitor,
                remark=remark,
            )
        )

    async def start(self, app: AppId) -> DomainInfo:
        bundle = self._bundle(app)
        record = bundle.read_record()
        if record is None:
            raise HypervisorError(f"cannot start {app}: it was not created")
        await self._begin(bundle)
        record = msgspec.structs.replace(record, started=self._clock.now())
        bundle.write_record(record)
        return self._inspect(bundle, record)

    async def stop(self, app: AppId, *, graceful: float, forced: float) -> None:
        bundle = self._bundle(app)
        record = bundle.read_record()
        if record is None or not record.process.alive():
            return
        process = record.process
        asked = record.started and graceful > 0 and await self._ask_to_end(bundle, process)
        if asked and await self._within(graceful, process.ended):
            await self._settle(record)
            return
        process.send(signal.SIGKILL)
        if not await self._within(forced, process.ended):
            raise HypervisorError(f"cannot stop {app}: not gone {forced:.0f} s after being killed")
        await self._settle(record)

    async def delete(self, app: AppId) -> None:
        bundle = self._bundle(app)
        groups = (self._app_group(app), self._monitor_group(app))
        record = bundle.read_record()
        if record is not None and record.process.alive():
            record.process.send(signal.SIGKILL)
            await self._within(_EXIT_SECONDS, record.process.ended)
        if record is not None:
            await self._settle(record)
        # what is left is stuck, or was never written down
        for group in groups:
            group.kill()
        try:
            await self._forget(bundle)
            await asyncio.to_thread(self._handover.give_back, bundle.directory)
            await asyncio.to_thread(bundle.remove)
            for group in groups:
                await self._remove_group(group)
            self._partition.give_back()
        except OSError as failure:
            raise HypervisorError(f"cannot delete {app}: {failure}") from failure

    async def info(self, app: AppId) -> DomainInfo | None:
        bundle = self._bundle(app)
        record = bundle.read_record()
        if record is not None and not record.process.alive():
            await self._settle(record)
        return self._inspect(bundle, record) if bundle.exists() else None

    async def list(self) -> tuple[DomainInfo, ...]:
        if not self._directory.is_dir():
            return ()
        names = sorted(entry.name for entry in self._directory.iterdir() if entry.is_dir())
        found = [await self.info(AppId(name)) for name in names if _ID.match(name)]
        return tuple(info for info in found if info is not None)

    async def wait_exit(self, app: AppId) -> DomainInfo | None:
        record = self._bundle(app).read_record()
        if record is not None:
            await _first(record.process.ended, record.monitor.ended)
        return await self.info(app)

    async def grow(self, domain: Domain) -> tuple[DiskStatus, ...]:
        bundle = self._bundle(domain.app)
        return tuple([await self._grow_one(bundle, one) for one in domain.volumes if one.size])

    async def _grow_one(self, bundle: Bundle, disk: DomainVolume) -> DiskStatus:
        sizes = bundle.read_sizes()
        told = sizes.get(disk.path, 0)
        if told >= disk.size:
            return DiskStatus(path=disk.path, size=told)
        try:
            if disk.readonly:
                raise UnfitError("cannot grow a disk that its app only reads, while that runs")
            await self._grow(bundle, disk)
        except HypervisorError as failure:
            return DiskStatus(path=disk.path, size=told, why=str(failure))
        bundle.write_sizes({**sizes, disk.path: disk.size})
        return DiskStatus(path=disk.path, size=disk.size)

    async def metrics(self, app: AppId) -> DomainMetric | None:
        record = self._bundle(app).read_record()
        if record is None or not record.started or not record.process.alive():
            return None
        usage = self._app_group(app).usage()
        if usage is None:
            return None
        return DomainMetric(
            at=self._clock.now(),
            cpu_ns=usage.cpu_ns,
            memory_bytes=usage.memory,
            memory_limit=usage.memory_limit,
            memory_peak=usage.memory_peak,
            disk_read=usage.disk_read,
            disk_write=usage.disk_write,
        )

    async def attach(
        self, app: AppId, console: ConsoleKind, *, password: str = ""
    ) -> socket.socket:
        info = await self.info(app)
        if info is None or info.state != SwState.RUNNING:
            raise HypervisorError(f"cannot attach to {app}: it does not run")
        return await self._attach(self._bundle(app), console, password)

    def _prepare(self, bundle: Bundle, domain: Domain, user_data: bytes) -> str:
        if domain.netns and not Path(domain.netns).exists():
            raise HypervisorError(f"cannot create {domain.name}: no network at {domain.netns}")
        self._consoles.mkdir(parents=True, exist_ok=True)
        if domain.cpus:
            self._partition.hold(domain.app, domain.cpus)
        return self._build(bundle, domain, user_data)

    async def _measure(self) -> MachineDevices:
        try:
            return await self._devices.measure()
        except DeviceError as failure:
            raise HypervisorError(str(failure)) from failure

    def _inspect(self, bundle: Bundle, record: Record | None) -> DomainInfo:
        broken = DomainInfo(bundle.app, "", 0, SwState.BROKEN)
        if record is None:
            return broken
        info = replace(
            broken,
            name=record.name,
            generation=record.generation,
            started=record.started,
            remark=record.remark,
        )
        running = record.process.alive() and record.monitor.alive()
        code = bundle.exit_code()  # after looking at conmon: it writes, then ends
        if code is not None:
            ended = Exit(code, self._app_group(bundle.app).out_of_memory())
            state, ended = self._judge(bundle, ended)
            return replace(info, state=state, exit=ended)
        if not running:
            return info
        state = SwState.RUNNING if record.started else SwState.BOOTING
        return replace(info, state=state, pid=record.process.pid)

    async def _settle(self, record: Record) -> None:
        """The process has ended: gives its conmon the time to write that down."""
        await self._within(_EXIT_SECONDS, record.monitor.ended)

    async def _within(self, seconds: float, wait: Callable[[], Awaitable[None]]) -> bool:
        """Whether it came before `seconds` had passed."""
        return await _first(wait, lambda: self._clock.sleep(seconds)) == 0

    async def _remove_group(self, group: Cgroup) -> None:
        """The kernel lets go of a group a moment after its last process."""
        for _ in range(100):
            if group.remove():
                return
            await self._clock.sleep(0.02)
        raise HypervisorError(f"cannot remove the control group {group.path}: still in use")

    def _bundle(self, app: AppId) -> Bundle:
        if not _ID.match(app):
            raise UnfitError(f"cannot run {app!r}: not an id")
        return Bundle(app, self._directory / app)

    def _app_group(self, app: AppId) -> Cgroup:
        own = self._partition.group(app)
        return own if own.exists() else Cgroup(f"{self._apps}/{app}")

    def _monitor_group(self, app: AppId) -> Cgroup:
        return Cgroup(f"{self._monitors}/{app}")


async def _first(*waits: Callable[[], Awaitable[None]]) -> int:
    """Index of the wait that is over first (the lower one, if several are); ends the others."""
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(index for index, task in enumerate(tasks) if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
