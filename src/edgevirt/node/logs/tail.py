"""Reads a growing file from where it stopped the last time, and frees what was read.

What was read and is safe elsewhere is punched out of the file (`fallocate`): its blocks are free,
its offsets stay, and whoever appends to it notices nothing. A file that was replaced (its writer
rotates it) is read to its end before the new one is begun.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

MAX_READ = 256 * 1024
"""Bytes taken from one file in one turn, so that a noisy app can't starve the others."""
MAX_LINE = 24 * 1024
"""Bytes of one line; the rest of a longer one is the next line."""
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_BLOCK = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True)
class Mark:
    """How far a file was read: which file, and how many of its bytes."""

    inode: int = 0
    offset: int = 0


class Tail:
    """One file. `mark` is where the next `read` begins; the caller keeps it."""

    def __init__(self, path: Path, mark: Mark) -> None:
        self._path = path
        self._fd = -1
        self.mark = mark

    def read(self) -> list[bytes]:
        """The whole lines that came since, without their ends; at most MAX_READ bytes."""
        if self._fd < 0 and not self._open():
            return []
        data = self._take()
        if not data and self._replaced():
            self.close()
            if self._open():
                data = self._take()
        lines, used = _split(data)
        self.mark = Mark(self.mark.inode, self.mark.offset + used)
        return lines

    def release(self, safe: Mark) -> None:
        """Frees the blocks before `safe`: their lines are kept elsewhere."""
        whole = safe.offset - safe.offset % _BLOCK
        if self._fd >= 0 and whole > 0 and safe.inode == self.mark.inode:
            _libc.fallocate(self._fd, _KEEP_SIZE_PUNCH_HOLE, 0, whole)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        except PermissionError:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        inode = os.fstat(self._fd).st_ino
        if inode != self.mark.inode:
            self.mark = Mark(inode, 0)
        return True

    def _take(self) -> bytes:
        size = os.fstat(self._fd).st_size
        if size < self.mark.offset:  # cut short by its writer: what is there is new
            self.mark = Mark(self.mark.inode, 0)
        return os.pread(self._fd, MAX_READ, self.mark.offset)

    def _replaced(self) -> bool:
        try:
            return os.stat(self._path).st_ino != self.mark.inode
        except FileNotFoundError:
            return True


def _split(data: bytes) -> tuple[list[bytes], int]:
    """Whole lines, and how many bytes they took. A line without an end yet waits, unless long."""
    lines: list[bytes] = []
    used = 0
    while used < len(data):
        end = data.find(b"\n", used, used + MAX_LINE)
        if end >= 0:
            lines.append(data[used:end])
            used = end + 1
        elif len(data) - used >= MAX_LINE:
            lines.append(data[used : used + MAX_LINE])
            used += MAX_LINE
        else:
            break
    return [line.strip(b"\0") for line in lines], used
