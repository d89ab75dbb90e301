"""Runs an image on this machine, without any fleet: a machine in QEMU, a bare container in runc.

Its console is the terminal. TCP ports of this machine's loopback lead into it. Nothing that it
writes outlives it, and the image stays as it is.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgevirt.host.container.bundle import Bundle
from edgevirt.host.content.stream import CannotUnpack, NoRoom
from edgevirt.host.content.unpack import Limits, unpack_layer
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.kvm.acceleration import processor
from edgevirt.image.eci.forward import Forwarder
from edgevirt.image.eci.parts import ContainerParts, DiskFile, MachineParts
from edgevirt.model.domain import Domain, DomainVolume
from edgevirt.model.eci import ContentFormat
from edgevirt.model.ids import AppId

OVMF: Final = Path("/usr/share/OVMF")
MEMORY: Final = 512 << 20
CPUS: Final = 1
BARE: Final = "None"
LEGACY: Final = "Legacy"
_UEFI: Final = "FML"
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)
_GRACE: Final = 10.0
"""Seconds that a container has to end by itself."""
_LIMIT: Final = 16 << 30
"""Bytes that a layer may unpack to."""

_FORMATS: Final[Mapping[ContentFormat, str]] = {
    ContentFormat.RAW: "raw",
    ContentFormat.QCOW: "qcow",
    ContentFormat.QCOW2: "qcow2",
    ContentFormat.VMDK: "vmdk",
    ContentFormat.VHD: "vpc",
    ContentFormat.VHDX: "vhdx",
    ContentFormat.ISO: "raw",
}
"""QEMU's names."""


class CannotRun(Exception):
    """«cannot run: why»."""


@dataclass(frozen=True)
class Wish:
    """What whoever runs it says. `memory`: bytes; 0: what the image wants. `forwards`: TCP port of
    this machine's loopback → TCP port within. `environment`: of a container. `virtualization`: as
    in an App; empty: what the image wants.
    """

    memory: int = 0
    cpus: int = 0
    forwards: Mapping[int, int] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    virtualization: str = ""


# -- machines -------------------------------------------------------------------------------------


def run_machine(parts: MachineParts, wish: Wish, scratch: Path, accelerator: str) -> int:
    """Until it ends; returns QEMU's exit status. Raises CannotRun."""
    variables = scratch / "efivars.fd"
    command = machine_command(parts, wish, variables, accelerator)
    if _virtualization(parts, wish) == _UEFI:
        try:
            shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
        except OSError as error:
            raise CannotRun(f"cannot run: no UEFI firmware (Debian's ovmf): {error}") from error
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        raise CannotRun(f"cannot run: {command[0]}: {error.strerror}") from error


def machine_command(
    parts: MachineParts, wish: Wish, variables: Path, accelerator: str
) -> list[str]:
    """QEMU's command line. Raises CannotRun."""
    wants = parts.declared.wants
    virtualization = _virtualization(parts, wish)
    if virtualization == BARE:
        raise CannotRun("cannot run without virtualization: the image is a machine")
    legacy = virtualization == LEGACY
    memory = (wish.memory or wants.memory or MEMORY) >> 20
    if memory < 1:
        raise CannotRun("cannot run: less than a MiB of memory")
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-user-config"),
        *("-machine", "pc" if legacy else "q35", "-accel", accelerator),
        *("-cpu", "qemu64" if legacy else processor(accelerator)),
        *("-smp", str(wish.cpus or wants.cpus or CPUS), "-m", str(memory)),
        *("-serial", "mon:stdio"),
    ]
    if virtualization == _UEFI:
        code = OVMF / "OVMF_CODE_4M.fd"
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
        command += ["-drive", f"if=pflash,format=raw,file={value(variables)}"]
    if parts.kernel is not None:
        command += ["-kernel", str(parts.kernel)]
        command += ["-append", parts.declared.cmdline] if parts.declared.cmdline else []
    if parts.initrd is not None:
        command += ["-initrd", str(parts.initrd)]
    root = [] if parts.root is None else [parts.root]
    for number, disk in enumerate([*root, *parts.disks]):
        command += _drive(number, disk, legacy=legacy, writable=bool(root) and number == 0)
    command += ["-netdev", f"user,id=net0{forwarded(wish)}"]
    model = "e1000" if legacy else "virtio-net-pci"
    command += ["-device", f"{model},netdev=net0,romfile="]
    return command if legacy else [*command, "-device", "virtio-rng-pci"]


def _virtualization(parts: MachineParts, wish: Wish) -> str:
    return wish.virtualization or parts.declared.wants.virtualization


def forwarded(wish: Wish) -> str:
    """In QEMU's list of options of a user network."""
    return "".join(
        f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in wish.forwards.items()
    )


def _drive(number: int, disk: DiskFile, *, legacy: bool, writable: bool) -> list[str]:
    name = _FORMATS.get(disk.format)
    if name is None:
        raise CannotRun(f"cannot run: a disk of format {disk.format.name}")
    cdrom = disk.format == ContentFormat.ISO
    access = ",snapshot=on" if writable and not cdrom else ",readonly=on"
    drive = f"if=none,id=disk{number},format={name},file={value(disk.path)}{access}"
    if cdrom:
        device = f"ide-cd,drive=disk{number},bootindex={number}"
    elif legacy:
        device = f"ide-hd,drive=disk{number},bootindex={number}"
    else:
        device = f"virtio-blk-pci,drive=disk{number},bootindex={number}"
    return ["-drive", drive, "-device", device]


def value(text: object) -> str:
    """In QEMU's lists of options a comma within a value is doubled."""
    return str(text).replace(",", ",,")


# -- containers -----------------------------------------------------------------------------------


def run_container(parts: ContainerParts, wish: Wish, scratch: Path) -> int:
    """Until it ends; returns its exit status. Needs root. Raises CannotRun."""
    if os.geteuid() != 0:
        raise CannotRun("cannot run a container: it needs root for its namespaces")
    name = _new_name()
    bundle = Bundle(AppId(name), scratch / "bundle")
    runc = ["runc", "--root", str(scratch / "runc")]
    try:
        volume = _volume(unpack_layers(parts, scratch), scratch)
        user_data = "".join(f"{one}\n" for one in wish.environment).encode()
        with _built(bundle, domain_of(parts, wish, volume, name), user_data):
            command = [*runc, "run", "--bundle", str(bundle.directory), name]
            forwarder = Forwarder([*runc, "state", name], wish.forwards)
            kill = functools.partial(_tell, [*runc, "kill", name])
            with forwarder, subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
                return wait(process, lambda: kill("TERM"), lambda: kill("KILL"))
    except (HypervisorError, CannotUnpack, NoRoom, OSError) as error:
        raise CannotRun(f"cannot run: {error}") from error


def _new_name() -> str:
    return f"eci-{uuid.uuid4().hex[:12]}"


def _tell(kill: list[str], number: str) -> None:
    subprocess.run([*kill, number], check=False, capture_output=True)


def wait(
    process: subprocess.Popen[bytes],
    ask: Callable[[], object],
    end: Callable[[], object],
    grace: float = _GRACE,
) -> int:
    """Ctrl-C (or SIGTERM) asks it to end; `grace` seconds later, or at the second one, it is ended.

    Returns its exit status.
    """
    before = {number: signal.signal(number, _interrupt) for number in _INTERRUPTS}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            ask()
            return process.wait(grace)
        end()
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def unpack_layers(parts: ContainerParts, scratch: Path) -> tuple[str, ...]:
    """Their directories, lowest first. Raises CannotUnpack, NoRoom, OSError."""
    layers = []
    for number, packed in enumerate(parts.layers):
        target = scratch / f"layer-{number}"
        target.mkdir()
        unpack_layer(packed, target, Limits(bytes=_LIMIT))
        layers.append(str(target))
    return tuple(layers)


def _volume(layers: tuple[str, ...], scratch: Path) -> DomainVolume:
    top = scratch / "top"
    (top / "upper").mkdir(parents=True)
    (top / "work").mkdir()
    return DomainVolume(path=str(top), format=ContentFormat.CONTAINER, layers=layers)


def domain_of(parts: ContainerParts, wish: Wish, volume: DomainVolume, name: str = "") -> Domain:
    """The container, bare. What nobody says of memory and processors is 0."""
    name, wants = name or _new_name(), parts.declared.wants
    return Domain(
        app=AppId(name),
        name=name,
        display_name=name,
        activate=True,
        memory_kib=(wish.memory or wants.memory) >> 10,
        vcpus=wish.cpus or wants.cpus,
        volumes=(volume,),
        image=parts.image,
        hostname=name,
    )


@contextlib.contextmanager
def _built(bundle: Bundle, domain: Domain, user_data: bytes) -> Iterator[None]:
    try:
        bundle.build(domain, user_data, cgroup=f"edgevirt-{bundle.app}", limit_swap=False)
        yield
    finally:
        bundle.remove()
