"""One small file out of a squashfs, without mounting it: whoever reads it needs no right to mount.

Format 4.0 (kernel's Documentation/filesystems/squashfs.rst and squashfs_fs.h), compressed with
zlib, as the boot loader reads it, or not at all. Every number is doubted: what it leads to must
lie in the image.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

_SUPERBLOCK: Final = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
_MAGIC: Final = 0x7371_7368
_ZLIB: Final = 1
_METADATA: Final = 8192
_NO_FRAGMENT: Final = 0xFFFF_FFFF
_DIRECTORY, _FILE, _EXTENDED_DIRECTORY, _EXTENDED_FILE = 1, 2, 8, 9
_STORED_METADATA, _STORED_DATA = 1 << 15, 1 << 24
_MOST_ENTRIES: Final = 10_000


class SquashfsError(Exception):
    """«cannot read X: why»."""


class _Image(msgspec.Struct, frozen=True):
    file: BinaryIO
    size: int
    block_size: int
    root: int
    inodes: int
    directories: int
    fragments: int

    def bytes_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size:
            raise SquashfsError("it points outside of itself")
        self.file.seek(offset)
        found = self.file.read(length)
        if len(found) != length:
            raise SquashfsError("it ends early")
        return found

    def metadata(self, table: int, reference: int, length: int) -> bytes:
        """`reference`: of a block in the table (upper bits) and a byte in it (lower 16)."""
        at, skip = table + (reference >> 16), reference & 0xFFFF
        found = b""
        while len(found) < skip + length:
            (header,) = struct.unpack("<H", self.bytes_at(at, 2))
            size = header & (_STORED_METADATA - 1)
            raw = self.bytes_at(at + 2, size)
            found += raw if header & _STORED_METADATA else _inflate(raw, _METADATA)
            at += 2 + size
        return found[skip : skip + length]

    def data(self, at: int, size: int) -> bytes:
        raw = self.bytes_at(at, size & (_STORED_DATA - 1))
        return raw if size & _STORED_DATA else _inflate(raw, self.block_size)


def read_file(file: BinaryIO, path: str, most: int = 65_536) -> bytes:
    """Of the image that begins at the start of `file`. Raises SquashfsError, OSError."""
    try:
        image = _open(file)
        reference = image.root
        for name in path.strip("/").split("/"):
            reference = _look_up(image, reference, name)
        return _content(image, reference, most)
    except (struct.error, SquashfsError, zlib.error) as error:
        raise SquashfsError(f"cannot read {path} of the image: {error}") from error


def used_bytes(file: BinaryIO) -> int:
    """How long the image says that it is. Raises SquashfsError, OSError."""
    try:
        return _open(file).size
    except struct.error as error:
        raise SquashfsError(f"cannot read the image: {error}") from error


def _open(file: BinaryIO) -> _Image:
    file.seek(0)
    fields = _SUPERBLOCK.unpack(file.read(_SUPERBLOCK.size))
    magic, block_size, compressor, major = fields[0], fields[3], fields[5], fields[9]
    if magic != _MAGIC or major != 4:
        raise SquashfsError("it is no squashfs")
    if compressor != _ZLIB:
        raise SquashfsError("it is not compressed with zlib")
    if not 4096 <= block_size <= 1 << 20:
        raise SquashfsError("its block size is absurd")
    root, used = fields[11], fields[12]
    inodes, directories, fragments = fields[15], fields[16], fields[17]
    return _Image(file, used, block_size, root, inodes, directories, fragments)


def _inflate(raw: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(raw, most)
    if unpacker.unconsumed_tail:
        raise SquashfsError("a block is larger than blocks are")
    return found


def _look_up(image: _Image, reference: int, name: str) -> int:
    """The inode that a directory has under this name."""
    kind = struct.unpack("<H", image.metadata(image.inodes, reference, 2))[0]
    if kind == _DIRECTORY:
        raw = image.metadata(image.inodes, reference, 32)
        block, _, size, offset, _ = struct.unpack_from("<IIHHI", raw, 16)
    elif kind == _EXTENDED_DIRECTORY:
        raw = image.metadata(image.inodes, reference, 40)
        _, size, block, _, _, offset, _ = struct.unpack_from("<IIIIHHI", raw, 16)
    else:
        raise SquashfsError(f"{name} is not in a directory")
    listing = image.metadata(image.directories, block << 16 | offset, max(0, size - 3))
    for found, inode in _entries(listing):
        if found == name.encode():
            return inode
    raise SquashfsError(f"there is no {name}")


def _entries(listing: bytes) -> Iterator[tuple[bytes, int]]:
    at, seen = 0, 0
    while at < len(listing):
        count, block, _ = struct.unpack_from("<III", listing, at)
        at += 12
        seen += count + 1
        if seen > _MOST_ENTRIES:
            raise SquashfsError("a directory is too large")
        for _ in range(count + 1):
            offset, _, _, length = struct.unpack_from("<HhHH", listing, at)
            yield listing[at + 8 : at + 9 + length], block << 16 | offset
            at += 9 + length


def _content(image: _Image, reference: int, most: int) -> bytes:
    kind = struct.unpack("<H", image.metadata(image.inodes, reference, 2))[0]
    if kind == _FILE:
        raw, lengths = image.metadata(image.inodes, reference, 32), 32
        at, fragment, offset, size = struct.unpack_from("<IIII", raw, 16)
    elif kind == _EXTENDED_FILE:
        raw, lengths = image.metadata(image.inodes, reference, 56), 56
        at, size, _, _, fragment, offset, _ = struct.unpack_from("<QQQIIII", raw, 16)
    else:
        raise SquashfsError("it is no file")
    if size > most:
        raise SquashfsError(f"it has {size} bytes")
    whole = size // image.block_size
    count = whole if fragment != _NO_FRAGMENT else -(-size // image.block_size)
    raw = image.metadata(image.inodes, reference, lengths + 4 * count)
    found = b""
    for length in struct.unpack_from(f"<{count}I", raw, lengths):
        found += image.data(at, length) if length else bytes(image.block_size)
        at += length & (_STORED_DATA - 1)
    if fragment != _NO_FRAGMENT:
        tail = _fragment(image, fragment)
        found += tail[offset : offset + size % image.block_size]
    return found[:size]


def _fragment(image: _Image, number: int) -> bytes:
    table = image.fragments + 8 * (number // 512)
    (block,) = struct.unpack("<Q", image.bytes_at(table, 8))
    entry = image.metadata(block, 16 * (number % 512), 16)
    at, size, _ = struct.unpack("<QII", entry)
    return image.data(at, size)
