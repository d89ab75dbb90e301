"""Writes a whole disk so that it either boots afterwards or is known not to be finished.

First of all a mark takes the place of the first sector; the table that firmware looks for replaces
it at the very end, in one sector, after everything else was read back from the disk and compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.model.disk import MIB, SECTOR
from edgevirt.model.gpt import Written

_BLKFLSBUF, _BLKRRPART, _BLKSSZGET = 0x1261, 0x125F, 0x1268
_HEAD: Final = MIB
"""Bytes at either end that are cleared: tables of partitions, and signatures of file systems."""

Say = Callable[[str], None]


class WriteError(Exception):
    """«cannot write X: why»."""


class Piece(msgspec.Struct, frozen=True):
    """What a place on the disk is to hold. `size`: bytes of the source from `skip` on.

    sha256   that the source must have, in hex; empty: whatever it has.
    """

    name: str
    at: int
    source: Path
    size: int
    skip: int = 0
    sha256: str = ""


class DiskWriter(msgspec.Struct):
    """Opened by `open_writer`. `size`, `sector`: bytes. Raises WriteError."""

    device: Path
    size: int
    sector: int
    _fd: int
    _written: list[tuple[str, int, int, str]] = msgspec.field(default_factory=list)

    def begin(self, mark: bytes) -> None:
        """From here on there is nothing on the disk that anything boots or finds."""
        with self._told("clear"):
            os.pwrite(self._fd, mark.ljust(self.sector, b"\0"), 0)
            os.fsync(self._fd)
            os.pwrite(self._fd, bytes(_HEAD - self.sector), self.sector)
            self._clear(self.size - _HEAD, _HEAD)
            os.fsync(self._fd)

    def erase(self) -> None:
        """Like a new disk, as far as anybody looks."""
        self.begin(b"")

    def clear_ends(self, at: int, size: int, length: int) -> None:
        """`length` bytes at either end of a place: no file system is found in it."""
        with self._told("clear"):
            length = min(length, size)
            self._clear(at, length)
            self._clear(at + size - length, length)

    def _clear(self, at: int, length: int) -> None:
        for offset in range(at, at + length, MIB):
            os.pwrite(self._fd, bytes(min(MIB, at + length - offset)), offset)

    def copy(self, piece: Piece) -> None:
        """Onto the disk, but not past what the kernel keeps in memory: `finish` does that."""
        with self._told(piece.name), piece.source.open("rb", buffering=0) as source:
            source.seek(piece.skip)
            digest = self._copy(source.fileno(), piece)
        if piece.sha256 and digest != piece.sha256:
            raise WriteError(
                f"cannot write {piece.name}: what the medium holds is not what was built;"
                " write the medium anew"
            )
        self._written.append((piece.name, piece.at, piece.size, digest))

    def _copy(self, source: int, piece: Piece) -> str:
        digest, done = hashlib.sha256(), 0
        while done < piece.size:
            chunk = os.read(source, min(MIB, piece.size - done))
            if not chunk:
                raise WriteError(f"cannot write {piece.name}: its source ends early")
            digest.update(chunk)
            view = memoryview(chunk)
            while view:
                count = os.pwrite(self._fd, view, piece.at + done)
                view, done = view[count:], done + count
        return digest.hexdigest()

    def finish(self, table: Written) -> None:
        """Everything is on the disk, was read back, and is found by whoever looks."""
        with self._told("the partition table"):
            os.fsync(self._fd)
        self._verify()
        with self._told("the partition table"):
            for offset, content in (table.backup, table.table, table.protective):
                os.pwrite(self._fd, content, offset)
                os.fsync(self._fd)
            self._forget()
            for offset, content in (table.backup, table.table, table.protective):
                if os.pread(self._fd, len(content), offset) != content:
                    raise WriteError(f"cannot write {self.device}: it does not keep its table")
        with contextlib.suppress(OSError):  # a file has no partitions to be read again
            fcntl.ioctl(self._fd, _BLKRRPART)

    def _verify(self) -> None:
        self._forget()
        for name, at, size, wanted in self._written:
            digest = hashlib.sha256()
            with self._told(name):
                for offset in range(at, at + size, MIB):
                    digest.update(os.pread(self._fd, min(MIB, at + size - offset), offset))
            if digest.hexdigest() != wanted:
                raise WriteError(
                    f"cannot write {name}: {self.device} does not keep what it is given"
                )

    def _forget(self) -> None:
        """What is read next comes from the disk."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, _BLKFLSBUF)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteError(
                f"cannot write {what} to {self.device}: {error.strerror or error}"
            ) from error


@contextmanager
def open_writer(device: Path) -> Iterator[DiskWriter]:
    """For us alone: a disk that anything of this system uses is refused. Raises WriteError."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise WriteError(f"cannot write {device}: {error.strerror or error}") from error
    try:
        yield DiskWriter(device, os.lseek(fd, 0, os.SEEK_END), _sector(fd), fd)
    finally:
        os.close(fd)


def _sector(fd: int) -> int:
    """Of a file that is an image, what images have."""
    try:
        answer = fcntl.ioctl(fd, _BLKSSZGET, bytes(4))
    except OSError:
        return SECTOR
    return int.from_bytes(answer, sys.byteorder)
