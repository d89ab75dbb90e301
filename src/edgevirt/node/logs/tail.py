"""Reads a growing file from where it stopped the last time, and frees what was read.

What was read and is safe elsewhere is punched out of the file (`fallocate`): its blocks are free,
its offsets stay, and whoever appends to it notices nothing. A file that was replaced (its writer
rotates it) is read to its end before the new one is begun.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import msgspec

MAX_READ = 256 * 1024
"""Bytes taken from one file in one turn, so that a noisy app can't starve the others."""
MAX_LINE = 24 * 1024
"""Bytes of one line; the rest of a longer one is the next line."""
_PIECE = re.compile(rb"\S+ (stdout|stderr) ([FP]) ")
"""How conmon's lines begin: P is one whose end had not been printed yet."""
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_BLOCK = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Mark(msgspec.Struct, frozen=True):
    """How far a file was read: which file, and how many of its bytes."""

    inode: int = 0
    offset: int = 0


class _Line(msgspec.Struct, frozen=True):
    """`end`: where it ends in what was read."""

    text: bytes
    end: int

    @property
    def is_whole(self) -> bool:
        piece = _PIECE.match(self.text)
        return piece is None or piece[2] == b"F"


class Tail:
    """One file. `mark` is where the next `read` begins; the caller keeps it.

    `pieces`: it is a console's, by conmon, whose lines come in pieces and are put together.
    """

    def __init__(self, path: Path, mark: Mark, *, pieces: bool = False) -> None:
        self._path = path
        self._fd = -1
        self._pieces = pieces
        self._seen = 0
        self.mark = mark

    def read(self) -> list[bytes]:
        """The whole lines that came since, without their ends; at most MAX_READ bytes."""
        if self._fd < 0 and not self._open():
            return []
        data = self._take()
        if not data and self._replaced():
            self.close()
            self.mark = Mark(0, 0)  # once it is closed, the next file may have its inode
            if self._open():
                data = self._take()
        lines = _split(data)
        if self._pieces:
            lines = self._whole(lines, self.mark.offset + len(data))
        used = lines[-1].end if lines else 0
        self.mark = Mark(self.mark.inode, self.mark.offset + used)
        return [line.text for line in lines]

    def _whole(self, lines: list[_Line], end: int) -> list[_Line]:
        """Of pieces. One that nothing followed since the last time is a prompt: it is given out."""
        grown, self._seen = end != self._seen, end
        joined = _join(lines)
        if joined and grown and not joined[-1].is_whole and not self._replaced():
            joined.pop()
        return joined

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


def _split(data: bytes) -> list[_Line]:
    """Whole lines. One without an end yet waits, unless long."""
    lines: list[_Line] = []
    used = 0
    while used < len(data):
        end = data.find(b"\n", used, used + MAX_LINE)
        if end >= 0:
            text, used = data[used:end], end + 1
        elif len(data) - used >= MAX_LINE:
            text, used = data[used : used + MAX_LINE], used + MAX_LINE
        else:
            break
        lines.append(_Line(text.strip(b"\0"), used))
    return lines


def _join(lines: list[_Line]) -> list[_Line]:
    """Each piece with the next of its stream, until the line's end or MAX_LINE bytes."""
    joined: list[_Line] = []
    for line in lines:
        before = _PIECE.match(joined[-1].text) if joined else None
        this = _PIECE.match(line.text)
        if before is None or this is None or before[2] == b"F" or before[1] != this[1]:
            joined.append(line)
            continue
        head, text = joined[-1].text, line.text[this.end() :]
        if len(head) + len(text) > MAX_LINE:
            joined.append(line)
            continue
        start = head[: before.start(2)] + this[2] + head[before.end(2) :]
        joined[-1] = _Line(start + text, line.end)
    return joined
