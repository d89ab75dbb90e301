"""Apps as virtual machines: QEMU runs each, in a cell of its own, and a conmon watches over it.

QEMU ends when its guest powers itself off, with exit code 0: HALTED. Any other end (killed,
crashed, a guest that panicked) is the machine's: BROKEN.

A container's machine (`guest`) is only the container's wall: whatever its end, it is HALTED, with
the app's own exit code if that was told.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.container.bundle import Bundle
from edgevirt.host.devices import of_machine
from edgevirt.host.devices.protocol import Devices
from edgevirt.host.domain.console import CONSOLE, connect
from edgevirt.host.domain.monitor import Conmon
from edgevirt.host.domain.monitored import MonitoredHypervisor
from edgevirt.host.domain.processors import Partition
from edgevirt.host.hypervisor import Exit, HypervisorError, UnfitError
from edgevirt.host.kvm import buses, disks, kernel, plugging, qemu, virtual_tpm
from edgevirt.host.kvm.acceleration import KVM, PROGRAM, acceleration, accelerator
from edgevirt.host.kvm.guest import END_SIZE, WITHOUT_A_WORD, GuestFiles, make_insides, read_end
from edgevirt.host.kvm.huge_pages import can_have
from edgevirt.host.kvm.qemu import Memory
from edgevirt.host.kvm.qmp import (
    HANDED,
    STARTING,
    ask,
    decode_cpus,
    decode_sizes,
    give,
)
from edgevirt.host.kvm.seed import make_seed
from edgevirt.host.processes import Process
from edgevirt.host.rights.cell import (
    ENVIRONMENT,
    PROGRAM_IN_CELL,
    Cell,
    Companion,
    OpenFile,
    decode,
)
from edgevirt.host.rights.confine import limit_memory
from edgevirt.host.volumes.written import mark_written
from edgevirt.model.access import ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import Domain, DomainVolume, VirtualizationMode
from edgevirt.model.hardware import DomainDevice, MachineDevices
from edgevirt.runtime import Clock

_FIRST_UID: Final = 64300
_UIDS: Final = 1000
_DEVICES: Final = "devices.json"
_DRIVES: Final = "drives.json"
_FIRST_PLUGGED: Final = "first-plugged.json"
_NO_HUGE_PAGES: Final = "runs in ordinary pages: no room for its memory in huge ones"


class KvmHypervisor(MonitoredHypervisor):
    """`firmware`: where each app's UEFI variables are kept, `<app>.fd`, longer than its domains.
    `tpms`: so its TPM, `<app>/`. `guest`: what containers' machines start with.

    The others: as MonitoredHypervisor takes them.
    """

    modes = frozenset(
        {
            VirtualizationMode.PV,
            VirtualizationMode.HVM,
            VirtualizationMode.FML,
            VirtualizationMode.LEGACY,
        }
    )

    def __init__(
        self,
        directory: Path,
        consoles: Path,
        firmware: Path,
        tpms: Path,
        guest: GuestFiles,
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
            Conmon(PROGRAM_IN_CELL, what="virtual machine", environment=ENVIRONMENT),
            apps=apps,
            monitors=monitors,
            partition=partition,
            devices=devices,
            clock=clock,
        )
        self._firmware = firmware
        self._tpms = tpms
        self._guest = guest

    def _build(self, bundle: Bundle, domain: Domain, user_data: bytes) -> str:
        program = shutil.which(PROGRAM)
        if program is None:
            raise HypervisorError(f"cannot create {domain.name}: {PROGRAM} is not installed")
        make = self._machine_of_container if domain.is_container else self._machine
        machine = msgspec.structs.replace(
            make(bundle, domain, user_data), memory=_memory(domain), vhost=_has_vhost()
        )
        mark_written(domain.volumes)
        group = self._app_group(domain.app)
        limit_memory(group, (domain.memory_kib + domain.overhead_kib) * 1024)
        cell = Cell(
            command=tuple(qemu.command(program, machine)),
            uid=_uid(domain),
            groups=tuple(str(path / "cgroup.procs") for path in group.directories()),
            files=tuple(_opened(machine)),
            reads=qemu.read_in_place(machine),
            taps=tuple(qemu.taps(domain)),
            sockets=(
                (qemu.MONITOR, str(_monitor_of(bundle))),
                (qemu.CONSOLE, str(_console_of(bundle))),
            ),
            output=qemu.CONSOLE_LOG,
            netns=domain.netns,
            writes=("/dev/kvm", *self._take_functions(bundle, domain)),
            pins_memory=bool(of_machine.functions(domain.devices)),
            companions=self._companions(domain),
        )
        bundle.write(_DEVICES, msgspec.json.encode(domain.devices))
        bundle.write(_FIRST_PLUGGED, msgspec.json.encode(disks.first_plugged(machine.domain)))
        bundle.write(_DRIVES, msgspec.json.encode(qemu.drives(machine)))
        bundle.write("cell.json", cell.encode(), mode=0o600)
        return _NO_HUGE_PAGES if machine.memory is Memory.WHOLE else ""

    def _take_functions(self, bundle: Bundle, domain: Domain) -> tuple[str, ...]:
        """Files by which QEMU drives them; they are given to its user."""
        for device in domain.devices:
            if device.function is not None:
                self._handover.set_function(bundle.directory, device.function)
        functions = of_machine.functions(domain.devices)
        files = [self._handover.take_function(bundle.directory, one) for one in functions]
        for path in files:
            os.chown(path, _uid(domain), 0)
        return ("/dev/vfio/vfio", *files) if files else ()

    def _companions(self, domain: Domain) -> tuple[Companion, ...]:
        if not domain.tpm:
            return ()
        return (virtual_tpm.companion(self._tpms / domain.app, _uid(domain)),)

    def _machine(self, bundle: Bundle, domain: Domain, user_data: bytes) -> qemu.Machine:
        qemu.check(domain)
        if domain.kernel:
            kernel.check(Path(domain.kernel), uefi=qemu.is_uefi(domain))
        bundle.begin()
        return qemu.Machine(
            domain,
            accelerator(),
            variables=self._variables(domain),
            seed=_write_seed(bundle, domain, user_data),
        )

    def _machine_of_container(
        self, bundle: Bundle, domain: Domain, user_data: bytes
    ) -> qemu.Machine:
        present = MachineDevices()
        if of_machine.sockets(domain.devices):
            present = asyncio.run(self._measure())  # in a thread of its own
        insides = make_insides(domain, user_data, self._guest, present)
        bundle.begin()
        own = {
            "given": bundle.write("given", insides.given, mode=0o600),
            "end": bundle.write("end", bytes(END_SIZE), mode=0o600),
        }
        own_disks = tuple(
            DomainVolume(path=path, format=ContentFormat.RAW, readonly=name == "given")
            for name, path in own.items()
        )
        whole = msgspec.structs.replace(
            insides.domain, volumes=(*insides.domain.volumes, *own_disks)
        )
        qemu.check(whole)
        serials = (*insides.serials, *own)
        return qemu.Machine(whole, accelerator(), serials=serials, ramdisk_at=insides.ramdisk_at)

    def _variables(self, domain: Domain) -> str:
        """Where they are, or are made as those of a new machine. Empty: it has no such firmware."""
        if not qemu.is_uefi(domain):
            return ""
        kept = self._firmware / f"{domain.app}.fd"
        if not kept.exists():
            if not Path(qemu.OVMF_VARIABLES).exists():
                raise UnfitError("cannot run: this node has no UEFI firmware for virtual machines")
            self._firmware.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            shutil.copyfile(qemu.OVMF_VARIABLES, part)
            part.replace(kept)
        return str(kept)

    async def _begin(self, bundle: Bundle) -> None:
        await ask(_monitor_of(bundle), "query-status", within=STARTING)
        await self._place(bundle)
        await self._join_buses(bundle)
        await self._plug(bundle)
        await ask(_monitor_of(bundle), "cont")

    async def _join_buses(self, bundle: Bundle) -> None:
        devices, record = _devices(bundle), bundle.read_record()
        if not of_machine.buses(devices) or record is None:
            return
        own = decode((bundle.directory / "cell.json").read_bytes()).netns
        namespace = own or f"/proc/{record.process.pid}/ns/net"
        await buses.join(bundle.directory, _monitor_of(bundle), devices, namespace, self._handover)

    async def _plug(self, bundle: Bundle) -> None:
        """What is there from the start: a guest may boot from it, as its firmware is told when the
        machine is reset.
        """
        devices = _devices(bundle)
        await self._attend(bundle, devices)
        if of_machine.sockets(devices) and _first_plugged(bundle) is not None:
            await ask(_monitor_of(bundle), "system_reset")

    async def attend(self, domain: Domain) -> tuple[str, ...]:
        return await self._attend(self._bundle(domain.app), domain.devices)

    async def _attend(self, bundle: Bundle, devices: tuple[DomainDevice, ...]) -> tuple[str, ...]:
        if not of_machine.sockets(devices):
            return ()
        machine = await self._measure()
        return await plugging.attend(
            bundle.directory, _monitor_of(bundle), devices, machine, _first_plugged(bundle)
        )

    async def _grow(self, bundle: Bundle, disk: DomainVolume) -> None:
        """QEMU makes the file longer, and tells the guest, which need not be asked."""
        monitor, path = _monitor_of(bundle), bundle.directory / _DRIVES
        names = msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}
        name = names.get(disk.path, "")
        there = decode_sizes(await ask(monitor, "query-block")).get(name)
        if there is None:
            raise HypervisorError("cannot grow it: the app runs without that disk")
        if there < disk.size:  # less than it has would cut it off
            await ask(monitor, "block_resize", device=name, size=disk.size)

    async def _place(self, bundle: Bundle) -> None:
        """Of a machine with processors of its own: each of its CPUs on one."""
        cpus = self._partition.held(bundle.app)
        if not cpus:
            return
        guests = decode_cpus(await ask(_monitor_of(bundle), "query-cpus-fast"))
        for guest, cpu in zip(guests, cpus, strict=False):  # whole cores: there may be more
            os.sched_setaffinity(guest.thread_id, {cpu})

    async def _forget(self, bundle: Bundle) -> None:
        """There is nothing else."""

    async def _ask_to_end(self, bundle: Bundle, process: Process) -> bool:
        """Presses the power button. A machine whose monitor is silent cannot hear it."""
        try:
            await ask(_monitor_of(bundle), "system_powerdown")
        except HypervisorError:
            return False
        return True

    async def _attach(self, bundle: Bundle, console: ConsoleKind, password: str) -> socket.socket:
        if console is ConsoleKind.SERIAL:
            return connect(_console_of(bundle))
        if not _has_screen(bundle):
            raise UnfitError("cannot attach: it has no screen, as it is started with a kernel")
        ours, theirs = socket.socketpair()
        commands: list[tuple[str, dict[str, object]]] = []
        if password:
            commands.append(("set_password", {"protocol": "vnc", "password": password}))
        hand_in = {"protocol": "vnc", "fdname": HANDED, "skipauth": not password}
        commands.append(("add_client", hand_in))
        with theirs:
            try:
                await give(_monitor_of(bundle), theirs, commands)
            except HypervisorError:
                ours.close()
                raise
        return ours

    def _judge(self, bundle: Bundle, exit: Exit) -> tuple[SwState, Exit]:
        try:
            record = (bundle.directory / "end").read_bytes()
        except FileNotFoundError:
            return (SwState.HALTED if exit.code == 0 else SwState.BROKEN), exit
        if exit.code != 0:
            return SwState.HALTED, exit
        return SwState.HALTED, read_end(record) or WITHOUT_A_WORD


def _opened(machine: qemu.Machine) -> Iterator[OpenFile]:
    for one in qemu.files(machine):
        yield OpenFile(one.descriptor, one.path, one.writable, one.copied)
    for descriptor in qemu.vhosts(machine):
        yield OpenFile(descriptor, qemu.VHOST, writable=True)


def _has_vhost() -> bool:
    """It spares a copy and a wake-up for each packet, which emulation makes no difference to."""
    return acceleration() == KVM and Path(qemu.VHOST).exists()


def _memory(domain: Domain) -> Memory:
    if not domain.cpus:
        return Memory.AS_USED
    return Memory.HUGE if can_have(domain.memory_kib * 1024) else Memory.WHOLE


def _monitor_of(bundle: Bundle) -> Path:
    return bundle.directory / "qmp"


def _devices(bundle: Bundle) -> tuple[DomainDevice, ...]:
    """As the machine was made."""
    said = (bundle.directory / _DEVICES).read_bytes()
    return msgspec.json.decode(said, type=tuple[DomainDevice, ...])


def _first_plugged(bundle: Bundle) -> int | None:
    """As the machine was made."""
    try:
        said = (bundle.directory / _FIRST_PLUGGED).read_bytes()
    except FileNotFoundError:  # by an older program
        return None
    return msgspec.json.decode(said, type=int | None)


def _console_of(bundle: Bundle) -> Path:
    return bundle.directory / CONSOLE


def _has_screen(bundle: Bundle) -> bool:
    """As it was started."""
    cell = decode((bundle.directory / "cell.json").read_bytes())
    return "-vnc" in cell.command


def _uid(domain: Domain) -> int:
    """Each app's own, by its number on this node."""
    number = domain.name.rpartition(".")[2]
    return _FIRST_UID + (int(number) % _UIDS if number.isdecimal() else 0)


def _write_seed(bundle: Bundle, domain: Domain, user_data: bytes) -> str:
    """In memory (the bundle is on a tmpfs): it may hold secrets."""
    if not user_data or domain.kernel:
        return ""
    image = make_seed(domain.name, domain.hostname or domain.app, user_data)
    return bundle.write("seed.iso", image, mode=0o600)
