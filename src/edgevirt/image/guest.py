"""The machine that a container runs in: a kernel for guests, and an initial file system of ours.

The kernel is Debian's for clouds: it starts fast and drives nothing but what QEMU shows it. It is
taken out of its compressed form, which an emulated processor would need a while to unpack. The
initial file system has busybox, the modules that are loaded, `files/guest/init.sh`, and one small
program in C, which a locked compiler makes, so that the same packages make the same bytes.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from edgevirt.image.compiler import compile_alone
from edgevirt.image.initrd import pack
from edgevirt.image.kernel import FILES
from edgevirt.image.modules import choose, parse_dependencies
from edgevirt.image.programs import ProgramError, Tools
from edgevirt.image.recipe import STABLE, Group
from edgevirt.image.unpack import unpack

SOURCES: Final = FILES / "guest"
KERNEL: Final = "vmlinux"
INITRD: Final = "initrd.img"

GUEST: Final = "guest"
COMPILER: Final = "compiler"


def guest_groups() -> tuple[Group, ...]:
    """What the guest is made of, and the compiler with the library that it runs on."""
    return (
        Group(
            GUEST,
            STABLE,
            ("linux-image-cloud-amd64", "busybox-static"),
            (r"(?!(?:linux-image-\d.*|busybox-static)$).*",),
        ),
        Group(COMPILER, STABLE, ("tcc", "lz4"), (r"(?!(?:tcc|lz4|liblz4-1|libxxhash0|libc6)$).*",)),
    )


_MODULES: Final = (
    *("drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko", "drivers/net/virtio_net.ko"),
    *("drivers/char/virtio_console.ko", "drivers/char/hw_random/virtio-rng.ko"),
    *("fs/squashfs/squashfs.ko", "fs/overlayfs/overlay.ko"),
    *("drivers/acpi/button.ko", "drivers/input/evdev.ko"),
)
_APPLETS: Final = (
    *("cat", "chmod", "dd", "hostname", "insmod", "ip", "kill", "ln", "mkdir", "mknod", "mount"),
    *("poweroff", "readlink", "rm", "sh", "sleep", "stty", "sync", "tar", "udhcpc", "umount"),
)
"""What `init.sh` and `lease.sh` call."""
_SETUP_SECTORS, _PAYLOAD, _SECTOR = 0x1F1, 0x248, 512
_DIRECTORIES: Final = ("bin", "dev", "lib", "proc", "root", "sys")


def make_guest(
    packages: Iterable[Path], tools: Tools, compiler: Tools, epoch: int, out: Path
) -> None:
    """`out`: a directory to be made, with KERNEL and INITRD."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        whole, tree = Path(scratch) / "whole", Path(scratch) / "tree"
        whole.mkdir()
        unpack(packages, whole)
        _fill(tree, whole, tools)
        compile_alone(compiler, SOURCES / "enter.c", tree / "enter")
        out.mkdir()
        packed = next((whole / "boot").glob("vmlinuz-*"))
        (out / KERNEL).write_bytes(_unpack_kernel(packed.read_bytes(), compiler))
        (out / INITRD).write_bytes(pack(tree, epoch))
    for name in (KERNEL, INITRD):
        (out / name).chmod(0o644)


def _unpack_kernel(image: bytes, compiler: Tools) -> bytes:
    """The ELF in a bzImage, which QEMU starts by PVH. Its header says where that is: the kernel's
    Documentation/x86/boot.rst. Raises ProgramError.
    """
    sectors = image[_SETUP_SECTORS]
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = (sectors + 1) * _SECTOR + offset
    payload = image[start : start + length - 4]  # less its size, which stands behind it
    elf = compiler.run("lz4", "-d", "-c", "-q", stdin=payload)
    if not elf.startswith(b"\x7fELF"):
        raise ProgramError("cannot make the guest: its kernel is packed in an unknown way")
    return elf


def _fill(tree: Path, whole: Path, tools: Tools) -> None:
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True)
    shutil.copyfile(whole / "usr/bin/busybox", tree / "bin/busybox")
    for name in _APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    shutil.copyfile(SOURCES / "init.sh", tree / "init")
    shutil.copyfile(SOURCES / "lease.sh", tree / "lease")
    for name in ("bin/busybox", "init", "lease"):
        (tree / name).chmod(0o755)
    modules = next((whole / "usr/lib/modules").iterdir())
    tools.run("depmod", "-b", whole, modules.name)
    names = []
    for module in _in_order((modules / "modules.dep").read_text()):
        names.append(Path(module).name)
        shutil.copyfile(modules / module, tree / "lib" / names[-1])
    (tree / "modules").write_text("".join(f"{name}\n" for name in names))


def _in_order(dependencies: str) -> tuple[str, ...]:
    """The modules that are wanted, each behind all that it needs."""
    needs = parse_dependencies(dependencies)
    chosen = {module: needs[module] for module in choose(needs, _MODULES, ())}
    wanted = [m for name in _MODULES for m in chosen if m == f"kernel/{name}"]
    return tuple(dict.fromkeys(module for top in wanted for module in _before(top, chosen)))


def _before(module: str, needs: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for needed in needs[module]:
        yield from _before(needed, needs)
    yield module


def publish(made: Path, directory: Path) -> None:
    """Puts what a build made where nodes of this machine look for it, each file whole."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in (KERNEL, INITRD):
        fresh = directory / f".{name}.new"
        shutil.copyfile(made / name, fresh)
        fresh.chmod(0o644)
        os.replace(fresh, directory / name)
