"""Apps as plain containers: an OCI runtime makes them, one conmon each watches over them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import msgspec

from edgevirt.host.bundle import Bundle
from edgevirt.host.cgroup import swap_limited
from edgevirt.host.devices import of_container
from edgevirt.host.devices.of_container import DeviceNode
from edgevirt.host.devices.of_machine import sockets
from edgevirt.host.devices.protocol import Devices
from edgevirt.host.monitor import Runtime
from edgevirt.host.monitored import MonitoredHypervisor
from edgevirt.host.processes import Process
from edgevirt.host.processors import Partition
from edgevirt.model.app import Domain, VirtualizationMode
from edgevirt.model.hardware import find_usb
from edgevirt.runtime import Clock

_INTERFACES = "interfaces.json"


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
        bundle.build(
            domain,
            user_data,
            cgroup=self._app_group(domain.app).path,
            limit_swap=swap_limited(),
            nodes=lambda: self._nodes(bundle, domain),
        )
        moved = of_container.interfaces(domain)
        if moved:
            bundle.write(_INTERFACES, msgspec.json.encode((domain.netns, moved)))
        return ""

    def _nodes(self, bundle: Bundle, domain: Domain) -> tuple[DeviceNode, ...]:
        if not domain.devices:
            return ()
        machine = asyncio.run(self._measure())  # in a thread of its own
        return of_container.nodes(bundle.directory, domain, machine, self._handover)

    async def _begin(self, bundle: Bundle) -> None:
        if (bundle.directory / _INTERFACES).exists():
            await asyncio.to_thread(self._give_interfaces, bundle)
        await self._runtime.start(bundle)

    def _give_interfaces(self, bundle: Bundle) -> None:
        written = (bundle.directory / _INTERFACES).read_bytes()
        kept, names = msgspec.json.decode(written, type=tuple[str, tuple[str, ...]])
        record = bundle.read_record()
        namespace = kept or (f"/proc/{record.process.pid}/ns/net" if record else "")
        for name in names:
            self._handover.move_interface(bundle.directory, name, namespace)

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

    async def _forget(self, bundle: Bundle) -> None:
        await self._runtime.delete(bundle)

    async def _ask_to_end(self, bundle: Bundle, process: Process) -> bool:
        if not process.hears(signal.SIGTERM):
            return False
        process.send(signal.SIGTERM)
        return True
