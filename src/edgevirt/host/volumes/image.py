"""Disk images of others: what their headers say, read with suspicion. Pure but for one file.

A header may name other files: a backing file, a data file, extents. On a node those would be the
node's own, so such an image is refused here, before any tool opens it. A disk that calls itself raw
and is not is the classic way around that: what a file claims to be is compared with what it is.
What passes is still converted by a confined `qemu-img`, and only what that made is ever given to a
hypervisor.

Formats: QEMU's docs/interop/qcow2.txt; VMware's «Virtual Disk Format 5.0»; Microsoft's «Virtual
Hard Disk Image Format» and [MS-VHDX].
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from edgevirt.model.content import ContentFormat

MOST_VIRTUAL: Final = 64 << 40
"""Bytes that a disk may pretend to have."""
_HEAD: Final = 65_536
_SECTOR: Final = 512
_MOST_DESCRIPTOR: Final = 1 << 20
_EXTENT: Final = re.compile(rb'^(?:RW|RDONLY|NOACCESS)\s+\d+\s+([A-Z0-9]+)\s+"', re.MULTILINE)
_PARENT: Final = re.compile(rb"^parentCID\s*=\s*([0-9a-fA-F]+)", re.MULTILINE)
_TYPE: Final = re.compile(rb'^createType\s*=\s*"([A-Za-z0-9]+)"', re.MULTILINE)
_KNOWN_FEATURES: Final = 0b1_1001
"""Of qcow2: dirty (a repair is due), compression by zstd, and subclusters."""
_DATA_FILE_NAME: Final = 0x4441_5441

_LEADING: Final = frozenset(
    {ContentFormat.QCOW, ContentFormat.QCOW2, ContentFormat.VMDK, ContentFormat.VHDX}
)
"""Formats in which a disk may lead to other files. A raw disk may well look like the others."""

READABLE: Final = {
    ContentFormat.RAW: "raw",
    ContentFormat.ISO: "raw",
    ContentFormat.QCOW: "qcow",
    ContentFormat.QCOW2: "qcow2",
    ContentFormat.VMDK: "vmdk",
    ContentFormat.VHD: "vpc",
    ContentFormat.VHDX: "vhdx",
}
"""As qemu-img calls them."""


class BadDiskImage(Exception):
    """Part of a sentence: why it is not used."""


class DiskFacts(msgspec.Struct, frozen=True):
    """`virtual_size`: bytes, as a guest sees it; 0: only a tool can tell."""

    virtual_size: int


def read_disk_image(path: Path, format: ContentFormat) -> DiskFacts:
    """Raises BadDiskImage, also when it is of another format; OSError."""
    if format not in READABLE:
        raise BadDiskImage(f"a disk of format {format.name} is not served")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = file.read(_HEAD)
        file.seek(max(0, size - _SECTOR))
        tail = file.read(_SECTOR)
        _compare(format, _format_by(head, tail))
        if format in (ContentFormat.RAW, ContentFormat.ISO):
            facts = DiskFacts(size)
        elif format in (ContentFormat.QCOW, ContentFormat.QCOW2):
            facts = _read_qcow(head)
        elif format is ContentFormat.VMDK:
            facts = _read_vmdk(head, file, size)
        elif format is ContentFormat.VHD:
            facts = _read_vhd(head, tail)
        else:
            facts = DiskFacts(
                0
            )  # VHDX: in tables far behind; of those with a parent QEMU opens none
    if facts.virtual_size > MOST_VIRTUAL:
        raise BadDiskImage(f"a disk of {facts.virtual_size} bytes; {MOST_VIRTUAL} are the bound")
    return facts


def _format_by(head: bytes, tail: bytes) -> ContentFormat | None:
    """By its content; None: raw, as far as that can be told."""
    if head.startswith(b"QFI\xfb") and len(head) >= 8:
        version = struct.unpack_from(">I", head, 4)[0]
        return ContentFormat.QCOW if version == 1 else ContentFormat.QCOW2
    if head.startswith((b"KDMV", b"COWD", b"# Disk DescriptorFile")):
        return ContentFormat.VMDK
    if head.startswith(b"vhdxfile"):
        return ContentFormat.VHDX
    if head.startswith(b"conectix") or tail.startswith(b"conectix"):
        return ContentFormat.VHD
    if head[32769:32774] == b"CD001":
        return ContentFormat.ISO
    if head[257:262] == b"ustar":
        return ContentFormat.OVA
    return None


def _compare(format: ContentFormat, found: ContentFormat | None) -> None:
    if format == ContentFormat.RAW and found not in _LEADING:
        return
    if format == ContentFormat.ISO and found in {None, ContentFormat.OVA}:  # UDF, or a hybrid
        return
    if found != format:
        what = f"a {found.name.lower()} disk" if found else "something else"
        raise BadDiskImage(f"it is {what} by its content")


def _read_qcow(head: bytes) -> DiskFacts:
    if len(head) < 72:
        raise BadDiskImage("its header is cut off")
    version, backing = struct.unpack_from(">IQ", head, 4)
    if version not in (1, 2, 3):
        raise BadDiskImage(f"it is qcow of version {version}")
    if backing:
        raise BadDiskImage("it names a backing file")
    (virtual,) = struct.unpack_from(">Q", head, 24)
    if version == 1:
        return DiskFacts(virtual)
    if version == 3:
        _check_qcow3(head)
    bits, _, crypt = struct.unpack_from(">IQI", head, 20)
    if not 9 <= bits <= 21:
        raise BadDiskImage(f"its clusters have 2^{bits} bytes")
    if crypt:
        raise BadDiskImage("it is encrypted")
    return DiskFacts(virtual)


def _check_qcow3(head: bytes) -> None:
    if len(head) < 80:
        raise BadDiskImage("its header is cut off")
    (features,) = struct.unpack_from(">Q", head, 72)
    if features & 0b100:
        raise BadDiskImage("it names a data file")
    if features & 0b10:
        raise BadDiskImage("it says that it is corrupt")
    if features & ~_KNOWN_FEATURES:
        raise BadDiskImage(f"it has unknown features {features:#x}")
    if len(head) < 104:
        raise BadDiskImage("its header is cut off")
    (place,) = struct.unpack_from(">I", head, 100)
    while place + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, place)
        if kind == 0:
            return
        if kind == _DATA_FILE_NAME:
            raise BadDiskImage("it names a data file")
        place += 8 + (length + 7) // 8 * 8
    raise BadDiskImage("its header does not end")


def _read_vmdk(head: bytes, file: BinaryIO, size: int) -> DiskFacts:
    if head.startswith(b"#"):
        raise BadDiskImage("it is a description that names other files")
    if head[:4] != b"KDMV" or len(head) < _SECTOR:
        raise BadDiskImage("it is a vmdk of another kind, or cut off")
    (capacity,) = struct.unpack_from("<Q", head, 12)
    start, length = (_SECTOR * n for n in struct.unpack_from("<QQ", head, 28))
    if not capacity:
        raise BadDiskImage("it holds a description instead of a disk")
    if not 0 < start < size or not 0 < length <= _MOST_DESCRIPTOR:
        raise BadDiskImage("it has no description of itself")
    file.seek(start)
    _check_description(file.read(length).split(b"\0")[0])
    return DiskFacts(capacity * _SECTOR)


def _check_description(text: bytes) -> None:
    kind = _TYPE.search(text)
    if kind is None or kind[1] not in (b"monolithicSparse", b"streamOptimized"):
        raise BadDiskImage("it is not one file that is the whole disk")
    parent = _PARENT.search(text)
    if b"parentFileNameHint" in text or parent is None or int(parent[1], 16) != 0xFFFF_FFFF:
        raise BadDiskImage("it names a parent disk")
    if _EXTENT.findall(text) != [b"SPARSE"]:
        raise BadDiskImage("it names other files as its extents")


def _read_vhd(head: bytes, tail: bytes) -> DiskFacts:
    footer = head if head.startswith(b"conectix") else tail
    if len(footer) < 64:
        raise BadDiskImage("its footer is cut off")
    virtual, kind = struct.unpack_from(">Q4xI", footer, 48)
    if kind not in (2, 3):
        raise BadDiskImage("it names a parent disk" if kind == 4 else "it is no disk")
    return DiskFacts(virtual)
