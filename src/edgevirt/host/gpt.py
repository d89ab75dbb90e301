"""The partition table of a disk, read from the disk itself. Pure but for `read_table`.

The kernel tells a partition's name, but not its type, and not those that were made since it looked.
Layout: UEFI specification, chapter 5 (GUID Partition Table).
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from edgevirt.model.disk import P3_LEAST, SECTOR, Label, partition

_MAGIC: Final = b"EFI PART"
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_ENTRIES_MAX: Final = 1 << 20
"""Bytes; a usual table has 16 KiB."""
_ALIGN: Final = 2048
"""Sectors: 1 MiB, as every tool aligns partitions."""


class TableError(Exception):
    """«cannot read the partition table of X: why»."""


@dataclass(frozen=True)
class Entry:
    """One partition. `first` and `last` are sectors, both its own."""

    number: int
    type: str
    guid: str
    first: int
    last: int
    label: str

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.last - self.first + 1) * SECTOR


@dataclass(frozen=True)
class Table:
    """`first`, `last`: the sectors that partitions may lie in. `backup`: where its copy is."""

    first: int
    last: int
    backup: int
    entries: tuple[Entry, ...]

    def find(self, label: Label) -> Entry | None:
        """The partition of this label and of the type that belongs to it."""
        wanted = partition(label).type.lower()
        for entry in self.entries:
            if entry.label == label and entry.type == wanted:
                return entry
        return None

    def gaps(self) -> list[tuple[int, int]]:
        """Free ranges of sectors, both ends included and aligned, the largest first."""
        found, at = [], self.first
        taken = sorted((entry.first, entry.last) for entry in self.entries)
        for first, last in [*taken, (self.last + 1, self.last + 1)]:
            begin = -(-at // _ALIGN) * _ALIGN
            end = first // _ALIGN * _ALIGN - 1
            if end > begin:
                found.append((begin, end))
            at = max(at, last + 1)
        return sorted(found, key=lambda gap: gap[0] - gap[1])

    def free_number(self, preferred: int) -> int:
        taken = {entry.number for entry in self.entries}
        if preferred not in taken:
            return preferred
        return next(number for number in range(1, 129) if number not in taken)


def read_table(disk: Path) -> Table:
    """Of a disk or an image of one; from the copy at the end when the first is damaged."""
    try:
        with disk.open("rb") as file:
            size = file.seek(0, 2)
            problems = []
            for at in (1, size // SECTOR - 1):
                try:
                    return _parse(file, at)
                except (TableError, struct.error) as error:
                    problems.append(str(error))
    except OSError as error:
        raise TableError(f"cannot read the partition table of {disk}: {error}") from error
    raise TableError(f"cannot read the partition table of {disk}: {problems[0]}")


def _parse(file: BinaryIO, at: int) -> Table:
    raw = _read(file, at * SECTOR, SECTOR)
    fields = _HEADER.unpack_from(raw)
    magic, _, header_size, crc, _, own, other, first, last, _, start, count, size, entries_crc = (
        fields
    )
    if magic != _MAGIC:
        raise TableError("there is no GPT")
    if not _HEADER.size <= header_size <= SECTOR or own != at:
        raise TableError("its header is damaged")
    blank = raw[:16] + bytes(4) + raw[20:header_size]
    if zlib.crc32(blank) != crc:
        raise TableError("its header is damaged")
    if size < _ENTRY.size or count * size > _ENTRIES_MAX:
        raise TableError("its size is absurd")
    entries = _read(file, start * SECTOR, count * size)
    if zlib.crc32(entries) != entries_crc:
        raise TableError("its entries are damaged")
    rows = (_entry(index + 1, entries[index * size :]) for index in range(count))
    return Table(first, last, max(own, other), tuple(row for row in rows if row is not None))


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _entry(number: int, raw: bytes) -> Entry | None:
    kind, guid, first, last, _, name = _ENTRY.unpack_from(raw)
    if kind == bytes(16):
        return None
    label = name.decode("utf-16-le", errors="replace").split("\0")[0]
    return Entry(number, _guid(kind), _guid(guid), first, last, label)


def _guid(raw: bytes) -> str:
    return str(uuid.UUID(bytes_le=raw))


@dataclass(frozen=True)
class New:
    """A partition that is to be made."""

    label: Label
    number: int
    first: int
    last: int


def plan_missing(table: Table, labels: Iterable[Label], sizes: dict[Label, int]) -> list[New]:
    """Where the missing ones of `labels` go, in that order. `sizes`: bytes; 0: all of a gap.

    Each is placed in the largest gap; one that fits nowhere is left out. Room for data comes first:
    without it a node keeps nothing, without a second slot it only takes no update.
    """
    labels, before = tuple(labels), table
    made: list[New] = []
    for label in labels:
        if table.find(label) is not None:
            continue
        wanted = sizes[label] // SECTOR
        least = wanted or P3_LEAST // SECTOR
        gap = next((gap for gap in table.gaps() if gap[1] - gap[0] + 1 >= least), None)
        if gap is None:
            if label is Label.P3 and len(labels) > 1:
                return plan_missing(before, [label], sizes)
            continue
        first, last = gap
        row = partition(label)
        number = table.free_number(row.number)
        new = New(label, number, first, first + wanted - 1 if wanted else last)
        made.append(new)
        entry = Entry(number, row.type.lower(), "", new.first, new.last, label)
        table = replace(table, entries=(*table.entries, entry))
    return made
