"""Files and file systems: whole writes, removal of any tree, room.

What is written whole here survives a power cut: data first, then its name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

_MARGIN = 64 * 1024 * 1024

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


def sync_file(path: Path) -> None:
    """Makes its content, and how long it is, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
