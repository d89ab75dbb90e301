"""Apps as domains of Xen's: `xl` makes each, and a conmon watches over its keeper.

A domain that switches itself off is HALTED; any other end is BROKEN.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from edgevirt.host.container.bundle import Bundle
from edgevirt.host.devices.protocol import Devices
from edgevirt.host.domain.console import connect
from edgevirt.host.domain.monitor import ENVIRONMENT, SECONDS, Conmon
from edgevirt.host.domain.monitored import MonitoredHypervisor
from edgevirt.host.domain.processors import Partition
from edgevirt.host.hypervisor import Exit, HypervisorError, UnfitError
from edgevirt.host.machine.capacity import Capacity, read_capacity
from edgevirt.host.processes import Process, output
from edgevirt.host.xen.domain_config import write_config
from edgevirt.host.xen.first_domain import PROGRAMS, STORE, starts_with_hardware
from edgevirt.host.xen.keeper import CONSOLE, Kept, decode
from edgevirt.host.xen.listing import Listed, parse_list, parse_memory
from edgevirt.model.access import ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.domain import Domain, DomainMetric, VirtualizationMode
from edgevirt.model.ids import AppId
from edgevirt.runtime import Clock

_KEEPER: Final = (sys.executable, "-S", "-m", "edgevirt.host.xen.keeper")
_IN_KEEPER: Final = {
    "PYTHONPATH": str(Path(__file__).parents[3]),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PATH": f"{PROGRAMS}:{ENVIRONMENT['PATH']}",
}
_XL: Final = str(PROGRAMS / "xl")
_CONFIG: Final = "keeper.json"
_MEBI: Final = 1 << 20


def can_start_domains() -> bool:
    """Whether this is Xen's first domain, with what it takes."""
    return STORE.exists() and (PROGRAMS / "xl").exists()


async def read_machine_capacity() -> Capacity:
    """Of the whole machine, not of the first domain alone. Raises HypervisorError."""
    said = await _ask("info", lines=True)
    try:
        memory = parse_memory(said)
    except ValueError as error:
        raise HypervisorError(f"cannot ask Xen for the machine's size: {error}") from error
    return replace(read_capacity(), memory_kib=memory * 1024)


class XenHypervisor(MonitoredHypervisor):
    """As MonitoredHypervisor."""

    modes = frozenset({VirtualizationMode.PV, VirtualizationMode.HVM})

    def __init__(
        self,
        directory: Path,
        consoles: Path,
        *,
        apps: str,
        monitors: str,
        partition: Partition,
        devices: Devices,
        clock: Clock,
    ) -> None:
        super().__init__(
            directory,
            consoles,
            Conmon(_KEEPER, what="domain", environment=_IN_KEEPER),
            apps=apps,
            monitors=monitors,
            partition=partition,
            devices=devices,
            clock=clock,
        )

    def _build(self, bundle: Bundle, domain: Domain, user_data: bytes) -> str:
        if domain.devices:
            raise UnfitError("cannot run: Xen's domains have no devices of the machine yet")
        if domain.is_container:
            raise UnfitError("cannot run: under Xen containers run without virtualization only")
        text = write_config(domain, hardware=starts_with_hardware())
        bundle.begin()
        group = self._app_group(domain.app)
        group.create()
        kept = Kept(
            domain.name,
            _XL,
            bundle.write("domain.cfg", text.encode(), mode=0o600),
            tuple(str(path / "cgroup.procs") for path in group.directories()),
            tuple(vif.host_name for vif in domain.vifs),
        )
        bundle.write(_CONFIG, kept.encode(), mode=0o600)
        return ""

    async def _begin(self, bundle: Bundle) -> None:
        await _ask("unpause", _name(bundle))

    async def _ask_to_end(self, bundle: Bundle, process: Process) -> bool:
        try:
            await _ask("shutdown", _name(bundle))
        except HypervisorError:
            return False
        return True

    async def _attach(self, bundle: Bundle, console: ConsoleKind, password: str) -> socket.socket:
        if console is not ConsoleKind.SERIAL:
            raise UnfitError("cannot attach: it has no screen, as Xen's domains have none")
        return connect(bundle.directory / CONSOLE)

    async def stop(self, app: AppId, *, graceful: float, forced: float) -> None:
        await super().stop(app, graceful=graceful, forced=forced)
        await self._forget(self._bundle(app))

    async def _forget(self, bundle: Bundle) -> None:
        """The domain lives on without its keeper."""
        if await self._look(bundle) is not None:
            await _ask("destroy", _name(bundle))

    async def metrics(self, app: AppId) -> DomainMetric | None:
        bundle = self._bundle(app)
        record = bundle.read_record()
        if record is None or not record.started or not record.process.alive():
            return None
        found = await self._look(bundle)
        if found is None:
            return None
        return DomainMetric(
            at=self._clock.now(),
            cpu_ns=int(found.seconds * 1e9),
            memory_bytes=found.memory * _MEBI,
            memory_limit=found.memory * _MEBI,
            memory_peak=found.memory * _MEBI,
        )

    def _judge(self, bundle: Bundle, exit: Exit) -> tuple[SwState, Exit]:
        return (SwState.HALTED if exit.code == 0 else SwState.BROKEN), exit

    async def _look(self, bundle: Bundle) -> Listed | None:
        name = _name(bundle)
        if not name:
            return None
        said = await _ask("list", "-v", lines=True)
        return next((one for one in parse_list(said) if one.name == name), None)


async def _ask(*arguments: str, lines: bool = False) -> str:
    try:
        code, said = await output([_XL, *arguments], timeout=SECONDS, env=ENVIRONMENT, lines=lines)
    except (TimeoutError, OSError) as failure:
        raise HypervisorError(f"cannot run xl {arguments[0]}: {failure!r}") from failure
    if code:
        raise HypervisorError(f"xl cannot {arguments[0]}: {said}")
    return said


def _name(bundle: Bundle) -> str:
    """Empty: no domain was made yet."""
    try:
        return decode((bundle.directory / _CONFIG).read_bytes()).name
    except (OSError, ValueError):
        return ""
