"""Puts files into a FAT file system that is not mounted: a partition, or a file that is an image.

mtools does it, as with sticks: the kernel's driver never sees what somebody else may have written.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

_SECONDS: Final = 60.0
_LEAST_SECTOR_BITS: Final = 7
"""mformat's code 0 stands for sectors of 128 bytes."""
_GEOMETRY: Final = ("-h", "64", "-s", "32")
"""Heads and sectors, which no firmware of today looks at, and mformat asks for."""
_ENVIRONMENT: Final = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": "/dev/null", "PATH": "/usr/bin:/bin"}


class FatFilesError(Exception):
    """«cannot write X: why»."""


def put_files(volume: Path, files: Mapping[str, bytes]) -> None:
    """By path (`folder/name`), in place of what was there; on the disk when it returns.

    Raises FatFilesError.
    """
    folders = {str(p) for name in files for p in PurePosixPath(name).parents} - {"."}
    for folder in sorted(folders):
        if _run("mdir", volume, "-b", f"::/{folder}/")[0] != 0:
            _do("mmd", volume, "-D", "s", f"::/{folder}")
    for name, content in sorted(files.items()):
        _do("mcopy", volume, "-D", "o", "-", f"::/{name}", content=content)
    _sync(volume)


def remove_files(volume: Path, names: Iterable[str]) -> None:
    """Those that are there. Raises FatFilesError."""
    for name in names:
        if _run("mdir", volume, "-b", f"::/{name}")[0] == 0:
            _do("mdel", volume, f"::/{name}")


def copy_volume(volume: Path, target: Path, size: int, sector: int) -> None:
    """All files (there are some) into a new file system: an image of `size` bytes, in sectors of
    `sector` bytes. They pass a directory beside it, which nobody else reads. Raises FatFilesError.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as files:
        _do("mcopy", volume, "-s", "-n", "::*", files)
        names = sorted(os.listdir(files))
        try:
            with target.open("wb") as image:
                image.truncate(size)
        except OSError as error:
            raise FatFilesError(f"cannot make {target}: {error.strerror or error}") from error
        code = str(sector.bit_length() - 1 - _LEAST_SECTOR_BITS)
        _do("mformat", target, "-S", code, "-T", str(size // sector), *_GEOMETRY, "::")
        _do("mcopy", target, "-s", "-m", *(f"{files}/{name}" for name in names), "::/")


def _sync(volume: Path) -> None:
    try:
        fd = os.open(volume, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise FatFilesError(f"cannot write to {volume}: {error.strerror or error}") from error


def _do(program: str, volume: Path, *arguments: str, content: bytes = b"") -> None:
    code, said = _run(program, volume, *arguments, content=content)
    if code != 0:
        raise FatFilesError(f"cannot write to {volume}: {said or f'{program} ended with {code}'}")


def _run(program: str, volume: Path, *arguments: str, content: bytes = b"") -> tuple[int, str]:
    try:
        done = subprocess.run(
            [program, "-i", str(volume), *arguments],
            input=content,
            capture_output=True,
            timeout=_SECONDS,
            env=_ENVIRONMENT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FatFilesError(f"cannot write to {volume}: {error}") from error
    return done.returncode, " ".join(done.stderr.decode(errors="replace").split())[:200]
