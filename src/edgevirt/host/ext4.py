"""An ext4 file system made as big as what it lies on, by the kernel that has it mounted.

The kernel does it while files are written, and keeps it in its journal: a power cut leaves the old
size or a new one. So no program of the node ever parses what an app may have written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from edgevirt.host.files import DiskError

_RESIZE: Final = 0x4008_6610
"""EXT4_IOC_RESIZE_FS of the kernel's Documentation/filesystems/ext4; its argument: blocks."""
_SUPERBLOCK, _MAGIC, _64BIT = 1024, 0xEF53, 0x80


class Layout:
    """What its superblock says. Raises DiskError, OSError. Of one that is mounted, perhaps what it
    said a moment ago.
    """

    def __init__(self, file: Path) -> None:
        with open(file, "rb") as opened:
            opened.seek(_SUPERBLOCK)
            head = opened.read(1024)
        if len(head) < 1024 or struct.unpack_from("<H", head, 0x38)[0] != _MAGIC:
            raise DiskError("cannot grow its file system: it is no ext4")
        (low,) = struct.unpack_from("<I", head, 0x4)
        (high,) = struct.unpack_from("<I", head, 0x150)
        (features,) = struct.unpack_from("<I", head, 0x60)
        shift, self.group = struct.unpack_from("<I4xI", head, 0x18)
        if shift > 6 or self.group == 0:
            raise DiskError("cannot grow its file system: its superblock makes no sense")
        self.block = 1024 << shift
        self.blocks = low | (high << 32 if features & _64BIT else 0)


def fill(mounted: Path, file: Path) -> None:
    """Makes the file system in `file`, which is mounted, as big as that. Idempotent. Blocks.
    Raises DiskError.
    """
    try:
        layout = Layout(file)
        blocks = file.stat().st_size // layout.block
        if blocks <= layout.blocks:
            return
        directory = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _resize(directory, blocks, layout)
        finally:
            os.close(directory)
    except OSError as failure:
        raise DiskError(f"cannot grow its file system: {failure.strerror}") from failure


def _resize(directory: int, blocks: int, layout: Layout) -> None:
    try:
        fcntl.ioctl(directory, _RESIZE, struct.pack("Q", blocks))
    except OSError as failure:
        # the last group may be too short for what describes it
        whole = blocks - blocks % layout.group
        if failure.errno != errno.EINVAL or whole <= layout.blocks:
            raise
        fcntl.ioctl(directory, _RESIZE, struct.pack("Q", whole))
