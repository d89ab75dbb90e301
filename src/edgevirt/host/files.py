"""Files and file systems: whole writes, sparse copies, ext4 images, removal of any tree, room.

What is written whole here survives a power cut: data first, then its name.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

_MARGIN = 64 * 1024 * 1024

_BLOCK = 64 * 1024
"""What of a copy is a hole or not."""
_STRETCH = 256 * _BLOCK
_ZEROS = bytes(_BLOCK)
_FICLONE = 0x4004_9409

_LIBC = ctypes.CDLL(None, use_errno=True)


class DiskError(Exception):
    """«cannot X: why». The disk or a tool of it failed; worth another try."""


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Makes an OSError a DiskError: «cannot WHAT: why»."""
    try:
        yield
    except OSError as failure:
        full = failure.errno in {errno.ENOSPC, errno.EDQUOT}
        why = "the disk is full" if full else str(failure)
        raise DiskError(f"cannot {what}: {why}") from failure


class Room(msgspec.Struct, frozen=True):
    """Bytes of a file system: all of them, and what an unprivileged writer may still use."""

    total: int
    free: int

    @property
    def usable(self) -> int:
        """What content may take: records and logs must still be written when it is full."""
        return max(0, self.free - min(_MARGIN, self.total // 20))


def room(path: Path) -> Room:
    figures = os.statvfs(path)
    return Room(figures.f_blocks * figures.f_frsize, figures.f_bavail * figures.f_frsize)


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replaces `path` so that after any crash it has the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.new")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with open(descriptor, "wb", closefd=True) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Makes all that was written to the file system of `path` durable: one call for a tree."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot sync {path}: {os.strerror(code)}")
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Removes a file or a directory, follows no link, and minds no depth.

    A workload may nest directories deeper than a recursion or a path name reaches; so each
    nested one is first moved up to the top. After a crash, call it again.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int) -> None:
    moved = 0
    while names := os.listdir(top):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            nested = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top
            )
            try:
                moved = _lift(nested, top, moved)
            finally:
                os.close(nested)
            os.rmdir(name, dir_fd=top)


def _lift(nested: int, top: int, moved: int) -> int:
    """Moves what is in `nested` to `top` (directories) or removes it (all else)."""
    for name in os.listdir(nested):
        if not stat.S_ISDIR(os.stat(name, dir_fd=nested, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=nested)
            continue
        while True:
            moved += 1
            try:
                os.rename(name, f".moved-{moved}", src_dir_fd=nested, dst_dir_fd=top)
                break
            except OSError as failure:
                if failure.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                    raise
    return moved


def allocated(path: Path) -> int:
    """Bytes that a file takes on the disk; 0 for a directory, or when there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    return found.st_blocks * 512 if stat.S_ISREG(found.st_mode) else 0


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


def sync_file(path: Path) -> None:
    """Makes its content, and how long it is, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
