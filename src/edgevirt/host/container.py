"""Apps as plain containers: an OCI runtime makes them, one conmon each watches over them."""

from __future__ import annotations

import signal
from pathlib import Path

from edgevirt.host.bundle import Bundle
from edgevirt.host.cgroup import swap_limited
from edgevirt.host.monitor import Runtime
from edgevirt.host.monitored import MonitoredHypervisor
from edgevirt.host.processes import Process
from edgevirt.host.processors import Partition
from edgevirt.model.app import Domain, VirtualizationMode
from edgevirt.runtime import Clock


class ContainerHypervisor(MonitoredHypervisor):
    """As MonitoredHypervisor."""

    modes = frozenset({VirtualizationMode.NOHYPER})

    def __init__(
        self,
        directory: Path,
        consoles: Path,
        *,
        apps: str,
        monitors: str,
        partition: Partition,
        clock: Clock,
        runtime: Runtime | None = None,
    ) -> None:
        self._runtime = runtime or Runtime(directory / ".runc")
        super().__init__(
            directory,
            consoles,
            self._runtime.conmon,
            apps=apps,
            monitors=monitors,
            partition=partition,
            clock=clock,
        )

    def _build(self, bundle: Bundle, domain: Domain, user_data: bytes) -> str:
        bundle.build(
            domain,
            user_data,
            cgroup=self._app_group(domain.app).path,
            limit_swap=swap_limited(),
        )
        return ""

    async def _begin(self, bundle: Bundle) -> None:
        await self._runtime.start(bundle)

    async def _forget(self, bundle: Bundle) -> None:
        await self._runtime.delete(bundle)

    async def _ask_to_end(self, bundle: Bundle, process: Process) -> bool:
        if not process.hears(signal.SIGTERM):
            return False
        process.send(signal.SIGTERM)
        return True
