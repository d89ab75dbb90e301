"""The CONFIG partition: what the node was given. Read once at the start; written hardly ever."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edgevirt.host.mounts import unmount_below
from edgevirt.host.stage import mount

FILE_MAX: Final = 1 << 20
DEPTH_MAX: Final = 2
"""`DevicePortConfig/override.json` is the deepest name that means anything."""
_FILES_MAX: Final = 200

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_SYNCHRONOUS: Final = 16 | 128
"""MS_SYNCHRONOUS, MS_DIRSYNC: there is no journal that would order the writes."""
_OPTIONS: Final = "umask=077,shortname=mixed,iocharset=ascii"


def read_config(device: Path) -> dict[str, bytes]:
    """Its files by name (`DevicePortConfig/override.json`). Raises OSError."""
    with _mounted(device, _MS_RDONLY) as directory:
        return read_files(directory)


def read_files(directory: Path) -> dict[str, bytes]:
    """Regular files that are not too large, down to `DEPTH_MAX` names."""
    found: dict[str, bytes] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if len(name.parts) > DEPTH_MAX or len(found) >= _FILES_MAX:
            continue
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= FILE_MAX:
            found[str(name)] = path.read_bytes()
    return found


def write_file(device: Path, name: str, content: bytes) -> None:
    """Puts a file at the top of the partition: whole and on disk when it returns. Raises OSError.

    Never over another one: what identifies a node is not replaced by accident.
    """
    with _mounted(device, _SYNCHRONOUS) as directory:
        target = directory / name
        if target.exists():
            raise FileExistsError(f"cannot write {name} to CONFIG: there is one")
        part = directory / f"{name}.new"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        part.rename(target)
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(top)
        finally:
            os.close(top)


@contextmanager
def _mounted(device: Path, flags: int) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="config-", dir="/run"))
    safe = flags | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    try:
        mount(str(device), directory, "vfat", safe, _OPTIONS)
        try:
            yield directory
        finally:
            unmount_below(directory)
    finally:
        directory.rmdir()
