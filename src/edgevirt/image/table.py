"""Reads a partition table: where a partition is, by its label and type. Pure."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Final

from edgevirt.image.errors import ImageError
from edgevirt.model.disk import SECTOR, Label, partition

_SIGNATURE: Final = b"EFI PART"
_ENTRIES_MAX: Final = 1024


class TableError(ImageError):
    """«cannot read the partition table: why»."""


@dataclass(frozen=True)
class Entry:
    """In bytes."""

    label: str
    type: str
    start: int
    size: int


def read_entries(head: bytes) -> tuple[Entry, ...]:
    """`head`: the first 64 KiB of a disk. Raises TableError."""
    header = head[SECTOR : 2 * SECTOR]
    if not header.startswith(_SIGNATURE):
        raise TableError("cannot read the partition table: it is no GPT; is this a disk of ours?")
    first, count, size = struct.unpack_from("<QII", header, 72)
    if count > _ENTRIES_MAX or size < 128 or first * SECTOR + count * size > len(head):
        raise TableError("cannot read the partition table: it is damaged")
    found = []
    for number in range(count):
        raw = head[first * SECTOR + number * size :][:size]
        kind = uuid.UUID(bytes_le=raw[:16])
        begin, end = struct.unpack_from("<QQ", raw, 32)
        if kind.int and end >= begin:
            label = raw[56:128].decode("utf-16-le", errors="replace").split("\0")[0]
            place = begin * SECTOR
            found.append(Entry(label, str(kind), place, (end - begin + 1) * SECTOR))
    return tuple(found)


def find(entries: tuple[Entry, ...], label: Label) -> Entry:
    """Raises TableError."""
    for entry in entries:
        if entry.label == label and entry.type == partition(label).type:
            return entry
    raise TableError(f"cannot find the partition {label} on this disk")
