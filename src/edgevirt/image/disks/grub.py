"""GRUB's first stage: its core, the modules that it needs, and its configuration, as one image.

All of it is what firmware loads and measures; nothing is read from the ESP but the states of the
slots. The modules `tpm` and `bli` lie beside, so that stage 1 itself decides when they begin.
"""

from __future__ import annotations

import io
import shutil
import struct
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgevirt.image.programs import ProgramError, Tools
from edgevirt.image.recipe import FILES, Arch
from edgevirt.model.disk import BOOT_CODE, CORE_SECTOR, FIRST_SECTOR, SECTOR

_HOME: Final = "boot/grub"
_EARLY: Final = f"""set firmware_root=$root
export firmware_root
set prefix=(memdisk)/{_HOME}
export prefix
"""
"""Run first, before there are conditions: keeps the partition that firmware loaded GRUB from."""
_MODULES: Final = (
    *("memdisk", "tar", "part_gpt", "part_msdos", "fat", "squash4", "gzio", "normal", "configfile"),
    *("linux", "loadenv", "regexp", "test", "echo", "sleep", "reboot", "halt", "probe", "minicmd"),
)
_LATE: Final = ("tpm", "bli")
"""Loaded when stage 1 says so: `tpm` begins to measure, `bli` tells the system which partition
firmware started GRUB from."""
_ENVIRONMENT_SIZE: Final = 1024
_KERNEL_SECTOR: Final = 0x5C
_DRIVE_CHECK: Final = 0x66
_BLOCKS: Final = 500


@dataclass(frozen=True)
class Platform:
    """`file`: the name by which firmware finds it on the ESP; empty: it is no EFI platform."""

    name: str
    file: str
    modules: tuple[str, ...]
    prefix: str = "/EFI/BOOT"
    """By which GRUB tells that partition."""


EFI: Final = {
    Arch.AMD64: Platform("x86_64-efi", "BOOTX64.EFI", ("multiboot2", "serial", "terminal")),
    Arch.ARM64: Platform("arm64-efi", "BOOTAA64.EFI", ("serial", "terminal")),
}
BIOS: Final = Platform(
    "i386-pc",
    "",
    ("biosdisk", "multiboot2", "serial", "terminal", "vga_text"),
    prefix="(,gpt1)/EFI/BOOT",
)
CORE, BOOT_SECTOR = "core.img", "boot.img"
CD_HEAD, HYBRID_SECTOR = "cdboot.img", "boot_hybrid.img"
"""What loads GRUB's core from a CD, and from a stick with the image of one."""
_HYBRID_PLACE: Final = 0x1B0
_CD_LENGTH: Final = struct.Struct("<III")
_CD_TABLE: Final = 8


def environment_block(imga: str, imgb: str) -> bytes:
    """GRUB's environment block with the states of both slots; they stand in its first sector."""
    text = f"# GRUB Environment Block\nIMGA={imga}\nIMGB={imgb}\n".encode()
    return text + b"#" * (_ENVIRONMENT_SIZE - len(text))


def make_grub(packages: Path, tools: Tools, arch: Arch, out: Path) -> None:
    """`out`: a directory with the ESP's program and, where there is a BIOS, its pieces."""
    out.mkdir()
    efi = EFI[arch]
    _make_image(packages, tools, efi, out / efi.file)
    if arch is Arch.AMD64:
        pieces = packages / "usr/lib/grub" / BIOS.name
        _make_image(packages, tools, BIOS, out / CORE)
        _aim(pieces / "boot.img", out / CORE, out / BOOT_SECTOR)
        for name in (CD_HEAD, HYBRID_SECTOR):
            shutil.copyfile(pieces / name, out / name)


def _make_image(packages: Path, tools: Tools, platform: Platform, out: Path) -> None:
    modules = packages / "usr/lib/grub" / platform.name
    with tempfile.TemporaryDirectory() as scratch:
        memdisk = Path(scratch) / "memdisk.tar"
        memdisk.write_bytes(_memdisk(modules, platform, tools.epoch))
        early = Path(scratch) / "early.cfg"
        early.write_text(_EARLY)
        arguments: tuple[str | Path, ...] = ("-d", modules, "-O", platform.name, "-m", memdisk)
        arguments += ("-p", platform.prefix, "-c", early)  # after -m, which sets its own prefix
        arguments += ("-o", out, *_MODULES, *platform.modules)
        tools.run("grub-mkimage", *arguments)


def _memdisk(modules: Path, platform: Platform, epoch: int) -> bytes:
    files = {f"{_HOME}/grub.cfg": (FILES / "stage1.cfg").read_bytes()}
    for name in _LATE if platform.file else ():
        files[f"{_HOME}/{platform.name}/{name}.mod"] = (modules / f"{name}.mod").read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), epoch
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _aim(boot: Path, core: Path, out: Path) -> None:
    """Tells the boot sector where the core is, and the core where its rest is."""
    room = (FIRST_SECTOR - CORE_SECTOR - 1) * SECTOR
    content = _padded(core.read_bytes())
    if len(content) > room:
        raise ProgramError(f"cannot boot by BIOS: GRUB has {len(content)} bytes, {room} fit")
    core.write_bytes(_aimed(content, CORE_SECTOR))
    sector = bytearray(boot.read_bytes()[:SECTOR])
    struct.pack_into("<Q", sector, _KERNEL_SECTOR, CORE_SECTOR)
    struct.pack_into("<H", sector, _DRIVE_CHECK, 0x9090)
    out.write_bytes(sector)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % SECTOR)


def _aimed(core: bytes, sector: int) -> bytes:
    """A core that stands at that sector of its disk: it knows where its rest is."""
    content = bytearray(core)
    struct.pack_into("<Q", content, _BLOCKS, sector + 1)
    struct.pack_into("<H", content, _BLOCKS + 8, len(content) // SECTOR - 1)
    return bytes(content)


def cd_program(boot: Path, block: int, block_size: int, head: int) -> tuple[bytes, bytes]:
    """What legacy BIOS starts from a CD, and the first sector that starts it from a stick.

    `boot`: what `make_grub` made. `block`: where it stands on the CD, `head`: where the CD's first
    descriptor does; in blocks of `block_size` bytes.
    """
    start = bytearray((boot / CD_HEAD).read_bytes())
    at = block * block_size // SECTOR + len(start) // SECTOR
    core = _aimed((boot / CORE).read_bytes(), at)
    _CD_LENGTH.pack_into(start, _CD_TABLE, head, block, len(start) + len(core))
    sector = bytearray((boot / HYBRID_SECTOR).read_bytes())
    struct.pack_into("<Q", sector, _HYBRID_PLACE, at)
    return bytes(start) + core, bytes(sector[:BOOT_CODE])
