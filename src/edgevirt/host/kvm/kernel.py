"""Whether a file is a kernel that QEMU starts, and by which firmware; told before anything starts.

QEMU itself takes what it does not know for a Linux of long ago, and starts nothing, in silence.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from edgevirt.host.hypervisor import HypervisorError, UnfitError

_HEAD: Final = 8192
"""Bytes in which a multiboot header is looked for, by its specification."""
_MULTIBOOT: Final = 0x1BADB002
_MULTIBOOT_2: Final = 0xE85250D6
_WITH_ADDRESSES: Final = 1 << 16
_WORD: Final = 0xFFFFFFFF
_INTEL_32: Final = 3
_NOTES: Final = 4
"""Type of a segment of an ELF file."""
_ENTRY: Final = (b"Xen", 18)
"""The note that says where a kernel starts by PVH."""
_MOST_SEGMENTS: Final = 64
_MOST_NOTES: Final = 1 << 20


class Form(enum.Enum):
    """How a kernel is started."""

    LINUX = "Linux's own form (bzImage)"
    MULTIBOOT = "multiboot"
    PVH = "PVH"
    EFI = "EFI"


def check(path: Path, *, uefi: bool) -> None:
    """Raises UnfitError. Blocks."""
    form = read_form(path)
    if form is Form.EFI and not uefi:
        raise UnfitError("cannot run: its kernel starts by EFI, and its machine has a BIOS")
    if form in (Form.MULTIBOOT, Form.PVH) and uefi:
        raise UnfitError(f"cannot run: its kernel starts by {form.value}, which UEFI cannot do")


def read_form(path: Path) -> Form:
    """Raises UnfitError, HypervisorError. Blocks."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head[0x202:0x206] == b"HdrS":
                return Form.LINUX
            flags = next(_headers(head), None)
            if flags is not None:
                _check_multiboot(head, flags)
                return Form.MULTIBOOT
            if _is_elf(head):
                if _is_pvh(file, head):
                    return Form.PVH
                raise UnfitError(
                    "cannot run: its kernel is an ELF file with neither a multiboot header nor a "
                    "note of where it starts by PVH"
                )
    except struct.error:
        raise UnfitError("cannot run: its kernel ends before its header does") from None
    except OSError as error:
        raise HypervisorError(f"cannot run: its kernel cannot be read: {error}") from error
    if head.startswith(b"MZ"):
        return Form.EFI
    forms = ", ".join(form.value for form in Form)
    raise UnfitError(f"cannot run: its kernel is none that a machine starts: {forms}")


def _headers(head: bytes) -> Iterator[int]:
    """Flags of multiboot headers."""
    for at in range(0, len(head) - 15, 4):
        magic, flags, second, third = struct.unpack_from("<IIII", head, at)
        if magic == _MULTIBOOT and (magic + flags + second) & _WORD == 0:
            yield flags
        if magic == _MULTIBOOT_2 and (magic + flags + second + third) & _WORD == 0:
            raise UnfitError("cannot run: its kernel starts by multiboot 2, not by multiboot")


def _check_multiboot(head: bytes, flags: int) -> None:
    if flags & _WITH_ADDRESSES:
        return
    if not _is_elf(head):
        raise UnfitError("cannot run: its multiboot kernel says nowhere where it is to lie")
    if int.from_bytes(head[18:20], "little") != _INTEL_32:
        raise UnfitError("cannot run: its multiboot kernel is no ELF file of 32 bits for x86")


def _is_elf(head: bytes) -> bool:
    return head.startswith(b"\x7fELF")


def _is_pvh(file: BinaryIO, head: bytes) -> bool:
    """An ELF file with Xen's note. Raises struct.error when it ends too early."""
    wide = head[4] == 2
    start, size, count = (
        struct.unpack_from("<32xQ14xHH", head) if wide else struct.unpack_from("<28xI10xHH", head)
    )
    for number in range(min(count, _MOST_SEGMENTS)):
        file.seek(start + number * size)
        segment = file.read(56)
        kind, where, length = struct.unpack_from("<I4xQ16xQ" if wide else "<II8xI", segment)
        if kind == _NOTES:
            file.seek(where)
            if _ENTRY in set(_notes(file.read(min(length, _MOST_NOTES)))):
                return True
    return False


def _notes(segment: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and types."""
    at = 0
    while at + 12 <= len(segment):
        name, content, kind = struct.unpack_from("<III", segment, at)
        yield segment[at + 12 : at + 12 + name].rstrip(b"\0"), kind
        at += 12 + -(-name // 4) * 4 + -(-content // 4) * 4
