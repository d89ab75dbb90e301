"""Files as large as disks, made and copied while others work on: ext4 images, sparse copies, tools.

Apart from `files`, which process 1 loads too: it waits for nothing by an event loop.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from edgevirt.host.files import DiskError, sync_file

_BLOCK = 64 * 1024
"""What of a copy is a hole or not."""
_STRETCH = 256 * _BLOCK
_ZEROS = bytes(_BLOCK)
_FICLONE = 0x4004_9409


async def make_ext4(path: Path, size: int, label: str) -> None:
    """A sparse file of `size` bytes that holds an ext4 file system owned by root.

    Blocks are taken from the disk as they are written; the file system never grows past `size`.
    Raises DiskError with what mkfs.ext4 said.
    """
    _make_sparse(path, size)
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"
    await run("mkfs.ext4", "-q", "-F", "-m", "0", "-L", label[:16], "-E", options, str(path))
    await asyncio.to_thread(sync_file, path)


def _make_sparse(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(size)


async def copy_sparse(source: Path, target: Path) -> None:
    """A copy of its own of a file: shared blocks where the file system can; what is zero is a hole.

    Raises OSError.
    """
    old = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if not await asyncio.to_thread(_clone, old, new):
                while await asyncio.to_thread(_copy_some, old, new):
                    pass  # whoever waits for it can give up in between
                os.truncate(new, os.fstat(old).st_size)
            await asyncio.to_thread(os.fsync, new)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _clone(source: int, target: int) -> bool:
    with suppress(OSError):
        fcntl.ioctl(target, _FICLONE, source)
        return True
    return False


def _copy_some(source: int, target: int) -> bool:
    """The next stretch of both files, from where they stand. False at the end."""
    here = os.lseek(source, 0, os.SEEK_CUR)
    try:
        start = os.lseek(source, here, os.SEEK_DATA)
    except OSError as failure:
        if failure.errno == errno.ENXIO:
            return False  # what is left is a hole
        raise
    os.lseek(target, start - here, os.SEEK_CUR)
    for _ in range(_STRETCH // _BLOCK):
        data = os.read(source, _BLOCK)
        if not data:
            return False
        if data == _ZEROS[: len(data)]:
            os.lseek(target, len(data), os.SEEK_CUR)
            continue
        while data:
            data = data[os.write(target, data) :]
    return True


async def run(program: str, *arguments: str) -> None:
    """Runs a tool to its end. Raises DiskError with the end of what it said when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as missing:
        raise DiskError(f"cannot run {program}: it is not installed") from missing
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        words = said.decode(errors="replace").strip()[-500:]
        raise DiskError(f"cannot run {program}: exit {process.returncode}: {words}")
