"""Reads the partition table of a disk, or of a file that is an image of one."""

from __future__ import annotations

import os
from pathlib import Path

from edgevirt.model.gpt import Table, TableError
from edgevirt.model.gpt import read_table as parse


def read_table(disk: Path) -> Table:
    """Raises TableError."""
    try:
        fd = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
            return parse(lambda offset, length: os.pread(fd, length, offset), size)
        finally:
            os.close(fd)
    except (OSError, TableError) as error:
        why = str(error).removeprefix("cannot read the partition table: ")
        raise TableError(f"cannot read the partition table of {disk}: {why}") from error
