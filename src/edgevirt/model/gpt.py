"""The partition table of a disk: read from its bytes, planned, and written as bytes. Pure.

The kernel tells a partition's name, but not its type, and not those that were made since it looked.
Everything in a table is counted in sectors, and how long they are it does not say: 512 bytes, or
4096 on disks that have no shorter ones («4Kn»).
Layout: UEFI specification, chapter 5 (GUID Partition Table).
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.model.disk import MIB, P3_LEAST, SECTOR, SECTORS, SLOTS, Label, partition

_MAGIC: Final = b"EFI PART"
_REVISION: Final = 0x10000
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_ENTRIES: Final = 128
_ENTRIES_MAX: Final = 1 << 20
"""Bytes; a usual table has 16 KiB."""
_ALIGN: Final = MIB
"""Bytes, as every tool aligns partitions."""
_NO_TABLE: Final = "there is no GPT"
_PROTECTIVE: Final = 0xEE
_MBR_ENTRIES, _MBR_SIGNATURE = 446, b"\x55\xaa"

Read = Callable[[int, int], bytes]
"""`read(offset, length)` of a disk, in bytes; shorter at its end."""


class TableError(Exception):
    """«cannot read the partition table: why»."""


class Entry(msgspec.Struct, frozen=True):
    """One partition. `first` and `last` are sectors of `sector` bytes, both its own."""

    number: int
    type: str
    guid: str
    first: int
    last: int
    label: str
    sector: int = SECTOR

    @property
    def start(self) -> int:
        """Bytes."""
        return self.first * self.sector

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.last - self.first + 1) * self.sector


class Table(msgspec.Struct, frozen=True):
    """`first`, `last`: the sectors that partitions may lie in. `backup`: where its copy is.
    `sector`: bytes of one.
    """

    first: int
    last: int
    backup: int
    entries: tuple[Entry, ...]
    sector: int = SECTOR

    def find(self, label: Label) -> Entry | None:
        """The partition of this label and of the type that belongs to it."""
        wanted = partition(label).type.lower()
        for entry in self.entries:
            if entry.label == label and entry.type == wanted:
                return entry
        return None

    def get(self, label: Label) -> Entry:
        """Raises TableError."""
        entry = self.find(label)
        if entry is None:
            raise TableError(f"cannot find the partition {label} on this disk")
        return entry

    def gaps(self) -> list[tuple[int, int]]:
        """Free ranges of sectors, both ends included and aligned, the largest first."""
        found, at, align = [], self.first, _ALIGN // self.sector
        taken = sorted((entry.first, entry.last) for entry in self.entries)
        for first, last in [*taken, (self.last + 1, self.last + 1)]:
            begin = -(-at // align) * align
            end = first // align * align - 1
            if end > begin:
                found.append((begin, end))
            at = max(at, last + 1)
        return sorted(found, key=lambda gap: gap[0] - gap[1])

    def free_number(self, preferred: int) -> int:
        taken = {entry.number for entry in self.entries}
        if preferred not in taken:
            return preferred
        return next(number for number in range(1, _ENTRIES + 1) if number not in taken)


# -- reading ---------------------------------------------------------------------------------------


def read_table(read: Read, size: int) -> Table:
    """Of a disk of `size` bytes; from the copy at its end when the first is damaged.

    Raises TableError.
    """
    problems = {}
    for sector in SECTORS:
        for at in (1, size // sector - 1):
            try:
                return _parse(read, at, sector)
            except (TableError, struct.error) as error:
                problems[str(error)] = error
    # that none is there says less than what is wrong with one
    why = next((text for text in problems if text != _NO_TABLE), _NO_TABLE)
    raise TableError(f"cannot read the partition table: {why}")


def _parse(read: Read, at: int, sector: int) -> Table:
    raw = read(at * sector, sector) if at > 0 else b""
    if not raw.startswith(_MAGIC):
        raise TableError(_NO_TABLE)
    fields = _HEADER.unpack_from(raw)
    _, _, header_size, crc, _, own, other, first, last, _, start, count, size, entries_crc = fields
    if not _HEADER.size <= header_size <= sector or own != at:
        raise TableError("its header is damaged")
    blank = raw[:16] + bytes(4) + raw[20:header_size]
    if zlib.crc32(blank) != crc:
        raise TableError("its header is damaged")
    if size < _ENTRY.size or count * size > _ENTRIES_MAX:
        raise TableError("its size is absurd")
    entries = read(start * sector, count * size)
    if zlib.crc32(entries) != entries_crc:
        raise TableError("its entries are damaged")
    rows = (_entry(index + 1, entries[index * size :], sector) for index in range(count))
    found = tuple(row for row in rows if row is not None)
    return Table(first, last, max(own, other), found, sector)


def _entry(number: int, raw: bytes, sector: int) -> Entry | None:
    kind, guid, first, last, _, name = _ENTRY.unpack_from(raw)
    if kind == bytes(16):
        return None
    label = name.decode("utf-16-le", errors="replace").split("\0")[0]
    return Entry(number, _guid(kind), _guid(guid), first, last, label, sector)


def _guid(raw: bytes) -> str:
    return str(uuid.UUID(bytes_le=raw))


def has_old_table(sector: bytes) -> bool:
    """Whether a disk's first sector is an MBR with partitions of its own: no GPT behind it."""
    if len(sector) < SECTOR or sector[510:512] != _MBR_SIGNATURE:
        return False
    kinds = [sector[_MBR_ENTRIES + 16 * number + 4] for number in range(4)]
    return any(kinds) and _PROTECTIVE not in kinds


# -- planning --------------------------------------------------------------------------------------


def plan_missing(table: Table, labels: Iterable[Label], sizes: dict[Label, int]) -> list[Entry]:
    """Where the missing ones of `labels` go, in that order, without GUIDs of their own yet.
    `sizes`: bytes; 0: all of a gap.

    Each is placed in the largest gap; one that fits nowhere is left out, and so is a slot whose
    number is taken: the boot loader knows slots by it. Room for data comes first: without it a
    node keeps nothing, without a second slot it only takes no update.
    """
    labels, before = tuple(labels), table
    made: list[Entry] = []
    for label in labels:
        row = partition(label)
        number = table.free_number(row.number)
        if table.find(label) is not None or (label in SLOTS and number != row.number):
            continue
        wanted = sizes[label] // table.sector
        least = wanted or P3_LEAST // table.sector
        gap = next((gap for gap in table.gaps() if gap[1] - gap[0] + 1 >= least), None)
        if gap is None:
            if label is Label.P3 and len(labels) > 1:
                return plan_missing(before, [label], sizes)
            continue
        first, last = gap
        last = first + wanted - 1 if wanted else last
        made.append(Entry(number, row.type.lower(), "", first, last, label, table.sector))
        table = replace(table, entries=(*table.entries, made[-1]))
    return made


# -- writing ---------------------------------------------------------------------------------------


class Written(msgspec.Struct, frozen=True):
    """The pieces of a new table, in the order in which they are safe to write: not before the last
    one is on the disk does anybody see a table. Each is (offset, content) in bytes.
    """

    backup: tuple[int, bytes]
    table: tuple[int, bytes]
    protective: tuple[int, bytes]
    """The first sector alone, which is written whole or not at all."""


def format_table(
    size: int, disk_guid: str, entries: Iterable[Entry], code: bytes, sector: int = SECTOR
) -> Written:
    """A table for a disk of `size` bytes. `code`: what legacy BIOS starts, at most 440 bytes."""
    sectors = size // sector
    rows = {entry.number: _format_entry(entry) for entry in entries}
    blank = bytes(_ENTRY.size)
    array = b"".join(rows.get(number, blank) for number in range(1, _ENTRIES + 1))
    main, copy = 1, sectors - 1
    before = copy - len(array) // sector
    places = ((main, copy, 2), (copy, main, before))
    head, tail = (
        _format_header(own, other, start, usable(size, sector), disk_guid, array).ljust(
            sector, b"\0"
        )
        for own, other, start in places
    )
    protective = struct.pack(
        "<B3sB3sII", 0, b"\0\2\0", _PROTECTIVE, b"\xff" * 3, 1, min(sectors - 1, 0xFFFF_FFFF)
    )
    first = code.ljust(_MBR_ENTRIES, b"\0") + protective.ljust(64, b"\0") + _MBR_SIGNATURE
    return Written(
        backup=(before * sector, array + tail),
        table=(sector, head + array),
        protective=(0, first.ljust(sector, b"\0")),
    )


def usable(size: int, sector: int = SECTOR) -> tuple[int, int]:
    """The first and the last sector that partitions may have, on a disk of `size` bytes."""
    table = _ENTRIES * _ENTRY.size // sector
    return 2 + table, size // sector - table - 2


def _format_entry(entry: Entry) -> bytes:
    kind, guid = uuid.UUID(entry.type).bytes_le, uuid.UUID(entry.guid).bytes_le
    name = entry.label.encode("utf-16-le")
    return _ENTRY.pack(kind, guid, entry.first, entry.last, 0, name)


def _format_header(
    own: int, other: int, start: int, usable: tuple[int, int], disk_guid: str, array: bytes
) -> bytes:
    fields = (own, other, *usable, uuid.UUID(disk_guid).bytes_le, start)
    rest = (_ENTRIES, _ENTRY.size, zlib.crc32(array))
    blank = _HEADER.pack(_MAGIC, _REVISION, _HEADER.size, 0, 0, *fields, *rest)
    crc = zlib.crc32(blank)
    return _HEADER.pack(_MAGIC, _REVISION, _HEADER.size, crc, 0, *fields, *rest)
