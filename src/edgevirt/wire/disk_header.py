"""What a disk's first bytes say of it: its format, and whether it leads to other files. Pure.

A disk that calls itself raw but is not, or that names another file of the host as its backing, is
the classic way to read what one may not. So the format is never guessed when a disk is used, and
what a file claims to be is compared with what it is.
"""

from __future__ import annotations

import struct
from typing import Final

from edgevirt.model.eci import ContentFormat
from edgevirt.wire.errors import BadDocument

HEAD: Final = 64 * 1024
"""Bytes from the start that are looked at; and TAIL from the end."""
TAIL: Final = 512

_QCOW: Final = b"QFI\xfb"
_LEADING: Final = frozenset(
    {ContentFormat.QCOW, ContentFormat.QCOW2, ContentFormat.VMDK, ContentFormat.VHDX}
)
"""Formats in which a disk may lead to other files. A raw disk may well look like the others."""
_EXTERNAL_DATA: Final = 1 << 2


def check_disk(head: bytes, tail: bytes, format: ContentFormat) -> None:
    """Raises BadDocument for a disk that is not of `format`, or not all in one file."""
    found = format_by(head, tail)
    if format == ContentFormat.RAW and found not in _LEADING:
        return
    if format == ContentFormat.ISO and found in {None, ContentFormat.OVA}:  # UDF, or a hybrid
        return
    if found != format:
        is_ = f"a {found.name.lower()} disk" if found else "something else"
        raise BadDocument(f"cannot use a disk as {format.name.lower()}: it is {is_} by its content")
    if format in {ContentFormat.QCOW, ContentFormat.QCOW2}:
        _check_qcow(head)
    if format == ContentFormat.VMDK and head.startswith(b"# Disk"):
        raise BadDocument("cannot use a vmdk that names other files as its content")


def format_by(head: bytes, tail: bytes) -> ContentFormat | None:
    """By its content; None: raw, as far as that can be told."""
    if head.startswith(_QCOW) and len(head) >= 8:
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


def _check_qcow(head: bytes) -> None:
    if len(head) < 72:
        raise BadDocument("cannot use a qcow disk: its header is cut off")
    version, backing = struct.unpack_from(">IQ", head, 4)
    if backing:
        raise BadDocument("cannot use a qcow disk that lies on another file")
    if version >= 3:
        if len(head) < 80:
            raise BadDocument("cannot use a qcow disk: its header is cut off")
        if struct.unpack_from(">Q", head, 72)[0] & _EXTERNAL_DATA:
            raise BadDocument("cannot use a qcow disk that keeps its data in another file")
