"""A machine's corner to run real domains in that a conmon each watches over."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

from edgevirt.host import mounts
from edgevirt.host.cgroup import Cgroup
from edgevirt.host.container.bundle import Bundle
from edgevirt.host.domain.monitored import MonitoredHypervisor
from edgevirt.host.fakes.devices import FakeDevices
from edgevirt.host.hypervisor import DomainInfo
from edgevirt.model.ids import AppId
from edgevirt.runtime import RealClock
from tests.parts.host_node import status

_SYS_RESOURCE = 24
PATIENCE = 90.0
"""Seconds until a test gives up waiting for what must come."""


class MonitoredWorld(ABC):
    """Below `directory`; the domains' own is `domains` in it. Close it, whatever happened."""

    domains: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._cgroup = f"edgevirt-test-{uuid.uuid4().hex[:8]}"
        self.clock = RealClock()
        self.devices = FakeDevices()

    @abstractmethod
    def hypervisor(self) -> MonitoredHypervisor:
        """Each call: one that knows nothing of the others."""

    def bundle(self, app: AppId) -> Bundle:
        return Bundle(app, self.directory / self.domains / app)

    def console(self, app: AppId) -> str:
        """What the app has printed, without conmon's stamps."""
        path = self.directory / "consoles" / f"{app}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        pieces = (line.split(" ", 3) for line in lines)
        said = "".join(text + "\n" * (end == "F") for _, _, end, text in pieces)
        return said.removesuffix("\n")

    @property
    def grows(self) -> bool:
        """This process may let file systems grow that the node's kernel has mounted."""
        [field] = status(os.getpid(), "CapEff")
        return bool(int(field, 16) >> _SYS_RESOURCE & 1)

    def length(self, path: str) -> int:
        return Path(path).stat().st_size

    async def ready(self, app: AppId) -> None:
        await until(lambda: "ready" in self.console(app))

    def crash(self, info: DomainInfo) -> None:
        os.kill(info.pid, signal.SIGKILL)

    def lose(self, info: DomainInfo) -> None:
        record = self.bundle(info.app).read_record()
        assert record is not None
        os.kill(record.monitor.pid, signal.SIGKILL)

    async def close(self) -> None:
        hypervisor = self.hypervisor()
        for info in await hypervisor.list():
            await hypervisor.delete(info.app)
        assert mounts.below(self.directory) == []
        for group in (Cgroup(f"{self._cgroup}-user-apps"), Cgroup(self._cgroup)):
            group.remove()
            assert not group.exists()


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Waits for a condition that nothing announces."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.01)
