"""Apps as plain containers: an OCI runtime makes them, one conmon each watches over them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from edgevirt.host import mounts
from edgevirt.host.cgroup import swap_limited
from edgevirt.host.container.bundle import Bundle
from edgevirt.host.devices import of_container
from edgevirt.host.devices.gpio_warden import Grants
from edgevirt.host.devices.of_container import Given
from edgevirt.host.devices.of_machine import sockets
from edgevirt.host.devices.protocol import Devices
from edgevirt.host.domain.monitor import Runtime
from edgevirt.host.domain.monitored import MonitoredHypervisor
from edgevirt.host.domain.processors import Partition
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.processes import Process
from edgevirt.host.rights.cell import ENVIRONMENT
from edgevirt.model.can import CanBus
from edgevirt.model.domain import Domain, DomainVolume, VirtualizationMode
from edgevirt.model.hardware import find_usb
from edgevirt.model.sriov import VirtualFunction
from edgevirt.runtime import Clock

_INTERFACES = "interfaces.json"


class _Moved(msgspec.Struct, frozen=True, array_like=True):
    """What moves into a network namespace (empty: the container's own). A container may be
    started by a newer program than made it, which knew of no functions.
    """

    namespace: str
    interfaces: tuple[tuple[str, CanBus | None], ...]
    functions: tuple[tuple[str, str, VirtualFunction], ...] = ()


_WARDEN = (sys.executable, "-S", "-m", "edgevirt.host.devices.gpio_warden")
_WARDEN_SECONDS = 30.0


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
        devices: Devices,
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
            devices=devices,
            clock=clock,
        )

    def _build(self, bundle: Bundle, domain: Domain, user_data: bytes) -> str:
        remark = bundle.build(
            domain,
            user_data,
            cgroup=self._app_group(domain.app).path,
            limit_swap=swap_limited(),
            given=lambda: self._given(bundle, domain),
        )
        moved = _Moved(
            domain.netns, of_container.interfaces(domain), of_container.functions(domain)
        )
        if moved.interfaces or moved.functions:
            bundle.write(_INTERFACES, msgspec.json.encode(moved))
        return remark

    def _given(self, bundle: Bundle, domain: Domain) -> Given:
        """What it finds of the machine's devices, and who looks after its requests."""
        if not domain.devices:
            return Given()
        machine = asyncio.run(self._measure())  # in a thread of its own
        nodes = of_container.nodes(domain, machine)
        grants = of_container.grants(domain, machine)
        if not grants:
            return Given(nodes)
        group = self._monitor_group(domain.app)
        group.create()
        groups = tuple(str(path / "cgroup.procs") for path in group.directories())
        socket = str(bundle.directory / "warden")
        path = bundle.write("grants.json", Grants(socket, grants, groups).encode(), mode=0o600)
        _start_warden(path)
        return Given(nodes, socket)

    async def _begin(self, bundle: Bundle) -> None:
        if (bundle.directory / _INTERFACES).exists():
            await asyncio.to_thread(self._give_interfaces, bundle)
        await self._runtime.start(bundle)

    def _give_interfaces(self, bundle: Bundle) -> None:
        written = (bundle.directory / _INTERFACES).read_bytes()
        moved = msgspec.json.decode(written, type=_Moved)
        record = bundle.read_record()
        namespace = moved.namespace or (f"/proc/{record.process.pid}/ns/net" if record else "")
        for name, can in moved.interfaces:
            self._handover.move_interface(bundle.directory, name, namespace, can)
        for name, address, function in moved.functions:
            self._handover.move_function(bundle.directory, address, function, name, namespace)

    async def attend(self, domain: Domain) -> tuple[str, ...]:
        """A container keeps the files that it began with."""
        if not any(sockets(domain.devices)):
            return ()
        machine = await self._measure()
        config = self._bundle(domain.app).directory / "config.json"
        given = await asyncio.to_thread(config.read_text)
        missing = []
        for device in sockets(domain.devices):
            found = find_usb(machine, device.addresses)
            if found is None:
                missing.append(f"{device.label} is not plugged in")
            elif f'"{found.node}"' not in given:
                missing.append(f"{device.label} was plugged in anew: restart the app to have it")
        return tuple(missing)

    async def _grow(self, bundle: Bundle, disk: DomainVolume) -> None:
        try:
            await asyncio.to_thread(mounts.enlarge, bundle.directory, Path(disk.path), disk.size)
        except mounts.MountError as failure:
            raise HypervisorError(str(failure)) from failure

    async def _forget(self, bundle: Bundle) -> None:
        await self._runtime.delete(bundle)

    async def _ask_to_end(self, bundle: Bundle, process: Process) -> bool:
        if not process.hears(signal.SIGTERM):
            return False
        process.send(signal.SIGTERM)
        return True


def _start_warden(grants: str) -> None:
    """Returns when it listens. Raises HypervisorError."""
    try:
        done = subprocess.run(
            [*_WARDEN, grants],
            env=ENVIRONMENT,
            capture_output=True,
            timeout=_WARDEN_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise HypervisorError(f"cannot start the warden of GPIO lines: {failure}") from failure
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise HypervisorError(f"cannot start the warden of GPIO lines: {said}")
