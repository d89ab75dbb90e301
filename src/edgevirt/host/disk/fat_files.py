"""Puts files into a FAT file system that is not mounted: a partition, or a file that is an image.

mtools does it, as with sticks: the kernel's driver never sees what somebody else may have written.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

_SECONDS: Final = 60.0
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
