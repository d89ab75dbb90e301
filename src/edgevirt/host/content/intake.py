"""A downloaded file becomes a blob: taken from who downloaded it, proven, and durable.

The downloader is not believed: it may name other files, and write to what it gave.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgevirt.host.content.stream import NoRoom
from edgevirt.host.files import room, sync_directory
from edgevirt.model.ids import Digest
from edgevirt.wire import oci

_BLOCK = 1024 * 1024


class Missing(Exception):
    """The blob is neither in the store nor among the downloads."""


class WrongDigest(Exception):
    """«cannot use X: why»: the downloaded bytes are others."""


class Cancelled(Exception):
    """The work was ended because nobody wants it any more."""


def take(downloads: Path, digest: Digest, blob: Path, cancelled: Callable[[], bool]) -> int:
    """Makes the downloaded file of that digest `blob`, proven and durable; returns its size.

    Raises Missing, WrongDigest, NoRoom, Cancelled.
    """
    name = oci.hex_of(digest)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(downloads / name, flags)
    except OSError as failure:
        if failure.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            raise Missing(f"{digest} is not downloaded") from failure
        raise
    staged = blob.with_name(f".{name}.new")
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise Missing(f"{digest} is no file")
        if _adopt(source, found, staged, downloads):
            actual = hash_file(source, cancelled)
        else:
            actual = _copy(source, found, staged, cancelled)
        if actual != name:
            raise WrongDigest(f"cannot use {digest}: the downloaded bytes are sha256:{actual}")
        os.replace(staged, blob)
        sync_directory(blob.parent)
        return found.st_size
    finally:
        os.close(source)
        with suppress(FileNotFoundError):
            staged.unlink()


def _adopt(source: int, found: os.stat_result, staged: Path, downloads: Path) -> bool:
    """Gives the downloaded file itself a name in the store: no byte is written twice. It is
    taken from its owner first, and only if nobody has it open for writing. False: copy it.
    """
    owner = os.stat(downloads).st_uid
    if found.st_uid != owner or found.st_nlink != 1:  # some other file's second name
        return False
    directory = os.open(staged.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{source}", staged.name, dst_dir_fd=directory)
        os.fchown(source, os.geteuid(), os.getegid())
        os.fchmod(source, 0o444)
        fcntl.fcntl(source, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # refused while one may write
        fcntl.fcntl(source, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        with suppress(FileNotFoundError):
            staged.unlink()
        return False
    finally:
        os.close(directory)
    return True


def _copy(source: int, found: os.stat_result, staged: Path, cancelled: Callable[[], bool]) -> str:
    usable = room(staged.parent).usable
    if usable < found.st_size:
        raise NoRoom(f"cannot keep a blob of {found.st_size} bytes: {usable} are free")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = os.open(staged, flags, 0o444)
    try:
        actual = hash_file(source, cancelled, target)
        os.fsync(target)
        return actual
    except OSError as failure:
        if failure.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoRoom(f"cannot keep a blob: {failure.strerror}") from failure
        raise
    finally:
        os.close(target)


def hash_file(source: int, cancelled: Callable[[], bool], target: int | None = None) -> str:
    """In hex; copies the file to `target` on the way. Raises Cancelled."""
    hashed = hashlib.sha256()
    os.lseek(source, 0, os.SEEK_SET)
    while block := os.read(source, _BLOCK):
        if cancelled():
            raise Cancelled
        hashed.update(block)
        rest = memoryview(block)
        while target is not None and rest:
            rest = rest[os.write(target, rest) :]
    return hashed.hexdigest()
