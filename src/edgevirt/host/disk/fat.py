"""Where a small file lies on a FAT file system, so that a part of it can be replaced in place.

Names are compared as 8.3, which `EFI/BOOT/grubenv` is. Read only; nothing here changes a table.
Layout: Microsoft's FAT specification 1.03.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

import msgspec

_ENTRY: Final = 32
_DIRECTORY, _LONG_NAME, _VOLUME = 0x10, 0x0F, 0x08
_MOST_CLUSTERS: Final = 4096
"""Of one directory or file that is looked at."""


class FatError(Exception):
    """«cannot find X: why»."""


class _Fat(msgspec.Struct, frozen=True):
    file: BinaryIO
    sector: int
    cluster: int
    """Bytes."""
    table: int
    """Offset of the first allocation table."""
    bits: int
    root: int
    """Offset of the fixed root directory, of FAT12 and FAT16."""
    root_size: int
    root_cluster: int
    """Of FAT32."""
    data: int
    """Offset of cluster 2."""
    count: int

    def at(self, cluster: int) -> int:
        if not 2 <= cluster < self.count + 2:
            raise FatError("a chain of clusters leads outside")
        return self.data + (cluster - 2) * self.cluster

    def read(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        found = self.file.read(length)
        if len(found) != length:
            raise FatError("it ends early")
        return found

    def next(self, cluster: int) -> int | None:
        if self.bits == 32:
            (value,) = struct.unpack("<I", self.read(self.table + 4 * cluster, 4))
            value &= 0x0FFF_FFFF
            return None if value >= 0x0FFF_FFF8 else value
        if self.bits == 16:
            (value,) = struct.unpack("<H", self.read(self.table + 2 * cluster, 2))
            return None if value >= 0xFFF8 else value
        (pair,) = struct.unpack("<H", self.read(self.table + cluster * 3 // 2, 2))
        value = pair >> 4 if cluster & 1 else pair & 0xFFF
        return None if value >= 0xFF8 else value

    def chain(self, cluster: int | None) -> list[int]:
        found: list[int] = []
        while cluster is not None:
            found.append(self.at(cluster))
            if len(found) > _MOST_CLUSTERS:
                raise FatError("a chain of clusters does not end")
            cluster = self.next(cluster)
        return found


def locate(file: BinaryIO, path: str) -> tuple[list[int], int]:
    """Offsets of the clusters of a file, each `cluster` bytes long, in order; and that length.

    Raises FatError, OSError.
    """
    try:
        fat = _open(file)
        *directories, name = path.strip("/").split("/")
        listing = _root(fat)
        for directory in directories:
            listing = _listing(fat, _find(listing, directory, directory=True))
        return fat.chain(_find(listing, name, directory=False)), fat.cluster
    except (struct.error, FatError, ZeroDivisionError) as error:
        raise FatError(f"cannot find {path}: {error}") from error


def _open(file: BinaryIO) -> _Fat:
    file.seek(0)
    boot = file.read(512)
    if len(boot) != 512 or boot[510:] != b"\x55\xaa":
        raise FatError("there is no FAT file system")
    sector, per_cluster, reserved, tables, roots, small = struct.unpack_from("<HBHBHH", boot, 11)
    (old_table,) = struct.unpack_from("<H", boot, 22)
    (large,) = struct.unpack_from("<I", boot, 32)
    (new_table, _, _, root_cluster) = struct.unpack_from("<IHHI", boot, 36)
    if sector not in {512, 1024, 2048, 4096} or not per_cluster:
        raise FatError("there is no FAT file system")
    table_sectors = old_table or new_table
    root_sectors = -(-roots * _ENTRY // sector)
    root = reserved + tables * table_sectors
    data = root + root_sectors
    count = ((small or large) - data) // per_cluster
    bits = 32 if not old_table else 12 if count < 4085 else 16
    return _Fat(
        file=file,
        sector=sector,
        cluster=per_cluster * sector,
        table=reserved * sector,
        bits=bits,
        root=root * sector,
        root_size=roots * _ENTRY,
        root_cluster=root_cluster if bits == 32 else 0,
        data=data * sector,
        count=count,
    )


def _root(fat: _Fat) -> bytes:
    if fat.bits == 32:
        return _listing(fat, fat.root_cluster)
    return fat.read(fat.root, fat.root_size)


def _listing(fat: _Fat, cluster: int) -> bytes:
    return b"".join(fat.read(offset, fat.cluster) for offset in fat.chain(cluster))


def _find(listing: bytes, name: str, *, directory: bool) -> int:
    stem, _, extension = name.upper().partition(".")
    wanted = f"{stem:8}{extension:3}".encode()
    for at in range(0, len(listing) - _ENTRY + 1, _ENTRY):
        entry = listing[at : at + _ENTRY]
        if entry[0] == 0:
            break
        kind = entry[11]
        if entry[0] == 0xE5 or kind & _LONG_NAME == _LONG_NAME or kind & _VOLUME:
            continue
        if entry[:11] == wanted and bool(kind & _DIRECTORY) == directory:
            high, low = struct.unpack_from("<H", entry, 20)[0], struct.unpack_from("<H", entry, 26)
            return int(high << 16 | low[0])
    raise FatError(f"there is no {name}")
