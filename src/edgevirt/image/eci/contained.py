"""Runs a container's image in a virtual machine of its own, as a node does, without any node.

The guest finds the disks that a node would give it, made for this one run, and its app's words are
all that is printed. It reaches nothing; TCP ports of this machine's loopback lead into it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from edgevirt.host.big_files import make_ext4
from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.content.stream import CannotUnpack, NoRoom
from edgevirt.host.files import DiskError
from edgevirt.host.hypervisor import HypervisorError
from edgevirt.host.kvm.acceleration import processor
from edgevirt.host.kvm.guest import (
    END_SIZE,
    WITHOUT_A_WORD,
    GuestFiles,
    Insides,
    make_insides,
    read_end,
)
from edgevirt.host.kvm.qmp import ask
from edgevirt.host.rights.death import die_with
from edgevirt.image.eci.parts import ContainerParts
from edgevirt.image.eci.run import (
    LEGACY,
    MEMORY,
    CannotRun,
    Wish,
    domain_of,
    forwarded,
    unpack_layers,
    value,
    wait,
)
from edgevirt.model.domain import Domain, DomainVolume, VirtualizationMode
from edgevirt.model.eci import ContentFormat

GUEST: Final = Path(sys.prefix) / "share/edgevirt/guest"
"""Where `edgevirt image guest` puts what such machines start with."""
_WRITTEN: Final = 1 << 30
"""Bytes that may be written over the image: as much as a node gives at most, unasked."""
_GRACE: Final = 30.0
"""Seconds that the app has to end by itself, in a machine that may be emulated."""
_SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def run_contained(
    parts: ContainerParts,
    wish: Wish,
    scratch: Path,
    accelerator: str,
    files: GuestFiles | None = None,
) -> int:
    """Until it ends; returns the app's exit status. Needs root, to unpack. Raises CannotRun."""
    files = files or GuestFiles.below(GUEST)
    if wish.virtualization == LEGACY:
        raise CannotRun("cannot run a container on legacy hardware: its kernel is not old")
    if not files.kernel.exists():
        raise CannotRun(
            "cannot run a container in a virtual machine: its kernel has to be made once, by"
            " `edgevirt image guest`; with --virtualization None it needs none"
        )
    if os.geteuid() != 0:
        raise CannotRun("cannot run a container: it needs root to unpack its layers")
    try:
        volume = asyncio.run(_volume(unpack_layers(parts, scratch), scratch))
        domain = domain_of(parts, wish, volume)
        if not domain.memory_kib:
            domain = replace(domain, memory_kib=MEMORY >> 10)
        user_data = "".join(f"{one}\n" for one in wish.environment).encode()
        insides = make_insides(
            replace(domain, mode=VirtualizationMode.PV, vcpus=domain.vcpus or 1), user_data, files
        )
        return _run(insides, wish, scratch, accelerator)
    except (HypervisorError, CannotUnpack, NoRoom, DiskError, OSError) as error:
        raise CannotRun(f"cannot run: {error}".replace("cannot run: cannot", "cannot")) from error


async def _volume(layers: tuple[str, ...], scratch: Path) -> DomainVolume:
    packed = PackedLayers(scratch / "packed")
    packed.begin()
    kept = scratch / "kept"
    await make_ext4(kept, _WRITTEN, "kept")
    return DomainVolume(
        path=str(kept),
        format=ContentFormat.CONTAINER,
        layers=layers,
        packed=str(await packed.make(layers)),
    )


def _run(insides: Insides, wish: Wish, scratch: Path, accelerator: str) -> int:
    (scratch / "given").write_bytes(insides.given)
    end = scratch / "end"
    end.write_bytes(bytes(END_SIZE))
    monitor = scratch / "qmp"
    command = contained_command(insides, wish, scratch, accelerator)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for QEMU: it would end at once
        preexec_fn=functools.partial(die_with, os.getpid()),
    ) as process:
        code = wait(
            process,
            lambda: asyncio.run(_press_power(monitor)),
            process.kill,
            grace=_GRACE,
        )
    if code < 0:
        return 128 - code
    if code != 0:
        raise CannotRun(f"cannot run: QEMU ended with exit status {code}")
    ended = read_end(end.read_bytes())
    if ended is None:
        raise CannotRun(WITHOUT_A_WORD.why.replace("cannot keep running", "cannot run"))
    if ended.out_of_memory:
        size = insides.domain.memory_kib >> 10
        print(f"edgevirt: it needed more memory than its {size} MiB", file=sys.stderr)
    return ended.code


async def _press_power(monitor: Path) -> None:
    await ask(monitor, "system_powerdown")


def contained_command(insides: Insides, wish: Wish, scratch: Path, accelerator: str) -> list[str]:
    """QEMU's command line."""
    domain = insides.domain
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-user-config"),
        *("-sandbox", _SANDBOX, "-machine", "q35", "-accel", accelerator),
        *("-cpu", processor(accelerator)),
        *("-smp", str(domain.vcpus), "-m", f"size={domain.memory_kib}k", "-no-reboot"),
        *("-action", "panic=exit-failure", "-device", "pvpanic"),
        *("-qmp", f"unix:{value(scratch / 'qmp')},server=on,wait=off"),
        *("-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-pci"),
        *("-device", "virtconsole,chardev=console", "-device", "virtio-rng-pci"),
        *("-kernel", domain.kernel, "-initrd", domain.ramdisk, "-append", domain.kernel_arguments),
        # as a bare container under trial: it is reached, and reaches nothing
        *("-netdev", f"user,id=net0,restrict=on{forwarded(wish)}"),
        *("-device", "virtio-net-pci,netdev=net0,romfile="),
    ]
    for number, (serial, volume) in enumerate(_disks(insides, domain, scratch)):
        access = "on" if volume.readonly else "off"
        where = f"file={value(volume.path)},format=raw,readonly={access}"
        command += ["-drive", f"if=none,id=disk{number},{where}"]
        command += ["-device", f"virtio-blk-pci,drive=disk{number},serial={serial}"]
    return command


def _disks(insides: Insides, domain: Domain, scratch: Path) -> list[tuple[str, DomainVolume]]:
    own = [
        (name, DomainVolume(path=str(scratch / name), format=ContentFormat.RAW, readonly=readonly))
        for name, readonly in (("given", True), ("end", False))
    ]
    return [*zip(insides.serials, domain.volumes, strict=True), *own]
