"""Puts what one node is given into the CONFIG partition of a disk that is a file or a device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from edgevirt.host.disk.table import read_table
from edgevirt.image.disks.iso9660 import BLOCK, HEAD
from edgevirt.image.disks.raw import add_files
from edgevirt.image.errors import ImageError
from edgevirt.image.programs import Tools
from edgevirt.model.disk import Label
from edgevirt.model.gpt import TableError

_FILE_MAX: Final = 1 << 20


class ConfigureError(ImageError):
    """«cannot configure the disk: why»."""


def configure(disk: Path, config: Path, tools: Tools) -> tuple[str, ...]:
    """Files in `config`, folders included, replace those of the same name. Returns their names.

    Raises ConfigureError, ProgramError.
    """
    files: dict[str, bytes | Path] = {}
    for path in sorted(config.rglob("*")):
        if path.is_file():
            if path.stat().st_size > _FILE_MAX:
                raise ConfigureError(f"cannot configure the disk: {path} is larger than 1 MiB")
            files[str(path.relative_to(config))] = path
    if not files:
        raise ConfigureError(f"cannot configure the disk: {config} holds no file")
    try:
        entry = read_table(disk).get(Label.CONFIG)
    except TableError as error:
        raise ConfigureError(f"cannot configure {disk}: {error}; is it a disk of ours?") from None
    add_files(disk, entry.start, files, tools)
    return tuple(files)


def is_iso(disk: Path) -> bool:
    with disk.open("rb") as file:
        file.seek(HEAD * BLOCK + 1)
        return file.read(5) == b"CD001"


def enlarge(disk: Path, size: int) -> None:
    """Gives the disk's file room for what the first boot makes. Raises ConfigureError."""
    if is_iso(disk):
        raise ConfigureError(
            f"cannot make {disk} larger: it is the image of a CD, on which nothing is made"
        )
    if disk.stat().st_size > size:
        raise ConfigureError(f"cannot make {disk} smaller: it has {disk.stat().st_size} bytes")
    os.truncate(disk, size)
