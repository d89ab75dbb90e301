"""The machine that a container runs in: a kernel for guests, and an initial file system of ours.

The kernel is Debian's for clouds: it starts fast and drives nothing but what QEMU shows it. It is
taken out of its compressed form, which an emulated processor would need a while to unpack. The
initial file system has busybox, the modules that are loaded, `files/guest/init.sh`, and two small
programs in C, which a locked compiler makes, so that the same packages make the same bytes.

A machine that is given devices starts with the general kernel instead, as it comes, and an initial
file system of the same kind; `drivers` is a disk besides.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from edgevirt.image.packages.unpack import unpack
from edgevirt.image.parts.compiler import compile_alone
from edgevirt.image.parts.drivers import make_drivers
from edgevirt.image.parts.initrd import pack
from edgevirt.image.parts.modules import choose, parse_dependencies
from edgevirt.image.programs import ProgramError, Tools
from edgevirt.image.recipe import FILES, STABLE, Group

SOURCES: Final = FILES / "guest"
KERNEL: Final = "vmlinux"
INITRD: Final = "initrd.img"
GENERAL_KERNEL: Final = "vmlinuz"
GENERAL_INITRD: Final = "general.img"
DRIVERS: Final = "drivers.img"

GUEST: Final = "guest"
GENERAL: Final = "general"
COMPILER: Final = "compiler"


def guest_groups() -> tuple[Group, ...]:
    """What the guest is made of, the kernel for one with devices, and the compiler with the library
    that it runs on.
    """
    return (
        Group(
            GUEST,
            STABLE,
            ("linux-image-cloud-amd64", "busybox-static"),
            (r"(?!(?:linux-image-\d.*|busybox-static)$).*",),
        ),
        Group(GENERAL, STABLE, ("linux-image-amd64",), (r"(?!linux-image-\d.*$).*",)),
        Group(COMPILER, STABLE, ("tcc", "lz4"), (r"(?!(?:tcc|lz4|liblz4-1|libxxhash0|libc6)$).*",)),
    )


_MODULES: Final = (
    *("drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko", "drivers/net/virtio_net.ko"),
    *("drivers/char/virtio_console.ko", "drivers/char/hw_random/virtio-rng.ko"),
    *("fs/squashfs/squashfs.ko", "fs/overlayfs/overlay.ko"),
    *("drivers/acpi/button.ko", "drivers/input/evdev.ko"),
)
_GENERAL_MODULES: Final = (*_MODULES, "crypto/crc32c_generic.ko", "fs/ext4/ext4.ko")
_APPLETS: Final = (
    *("cat", "chmod", "dd", "hostname", "insmod", "ip", "kill", "ln", "mkdir", "mknod", "modprobe"),
    *("mount", "poweroff", "readlink", "rm", "sh", "sleep", "stty", "sync", "tar", "udhcpc"),
    *("uevent", "umount"),
)
"""What the scripts call."""
_SETUP_SECTORS, _PAYLOAD, _SECTOR = 0x1F1, 0x248, 512
_SCRIPTS: Final = ("init", "lease", "plugged")
_DIRECTORIES: Final = ("bin", "dev", "lib", "proc", "root", "sys")


def make_guest(
    packages: Iterable[Path],
    general: Iterable[Path],
    tools: Tools,
    compiler: Tools,
    epoch: int,
    out: Path,
) -> None:
    """`packages`, `general`: of the groups of these names. `out`: a directory to be made."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        whole, other, tree = (Path(scratch) / name for name in ("whole", "other", "tree"))
        whole.mkdir()
        other.mkdir()
        unpack(packages, whole)
        unpack(general, other, only=("./boot/vmlinuz-*", "./lib/modules/*"))
        out.mkdir()
        packed = next((whole / "boot").glob("vmlinuz-*"))
        (out / KERNEL).write_bytes(_unpack_kernel(packed.read_bytes(), compiler))
        shutil.copyfile(next((other / "boot").glob("vmlinuz-*")), out / GENERAL_KERNEL)
        _fill(tree, whole / "usr/bin/busybox")
        for name in ("enter", "fill"):
            compile_alone(compiler, SOURCES / f"{name}.c", tree / name)
        for name, source, wanted in (
            (INITRD, whole, _MODULES),
            (GENERAL_INITRD, other, _GENERAL_MODULES),
        ):
            _take_modules(tree, _modules(source, tools), wanted)
            (out / name).write_bytes(pack(tree, epoch))
        make_drivers(_modules(other, tools), tools, epoch, out / DRIVERS)
    for made in out.iterdir():
        made.chmod(0o644)


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


def _fill(tree: Path, busybox: Path) -> None:
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True)
    shutil.copyfile(busybox, tree / "bin/busybox")
    for name in _APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    for name in _SCRIPTS:
        shutil.copyfile(SOURCES / f"{name}.sh", tree / name)
    for name in ("bin/busybox", *_SCRIPTS):
        (tree / name).chmod(0o755)


def _modules(root: Path, tools: Tools) -> Path:
    """All of a kernel, with their dependencies."""
    modules = next((root / "usr/lib/modules").iterdir())
    if not (modules / "modules.dep").exists():
        tools.run("depmod", "-b", root, modules.name)
    return modules


def _take_modules(tree: Path, modules: Path, wanted: Iterable[str]) -> None:
    """Instead of those that it has."""
    shutil.rmtree(tree / "lib")
    (tree / "lib").mkdir()
    names = []
    for module in _in_order((modules / "modules.dep").read_text(), wanted):
        names.append(Path(module).name)
        shutil.copyfile(modules / module, tree / "lib" / names[-1])
    (tree / "modules").write_text("".join(f"{name}\n" for name in names))


def _in_order(dependencies: str, wanted: Iterable[str]) -> tuple[str, ...]:
    """The modules that are wanted, each behind all that it needs."""
    wanted = tuple(wanted)
    needs = parse_dependencies(dependencies)
    chosen = {module: needs[module] for module in choose(needs, wanted, ())}
    found = [m for name in wanted for m in chosen if m == f"kernel/{name}"]
    return tuple(dict.fromkeys(module for top in found for module in _before(top, chosen)))


def _before(module: str, needs: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for needed in needs[module]:
        yield from _before(needed, needs)
    yield module


def publish(made: Path, directory: Path) -> None:
    """Puts what a build made where nodes of this machine look for it, each file whole."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in (KERNEL, INITRD, GENERAL_KERNEL, GENERAL_INITRD, DRIVERS):
        fresh = directory / f".{name}.new"
        shutil.copyfile(made / name, fresh)
        fresh.chmod(0o644)
        os.replace(fresh, directory / name)
