"""Unpacks a layer of an OCI image for an overlay file system. The bytes are hostile.

Nothing lands outside the target: names are walked by `rooted`, links are never followed by the
kernel, devices are left out; `stream` bounds the bytes. What overlayfs must know of a layer is
written the way that needs no privilege: a whiteout is the character device 0:0, an opaque directory
carries `user.overlay.opaque` (mount with `userxattr`).
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from edgevirt.host.content.rooted import Outside, Rooted, split
from edgevirt.host.content.stream import BLOCK, HEADER_BYTES, CannotUnpack, LayerStream, NoRoom

OPAQUE = "user.overlay.opaque"
WHITEOUT = ".wh."
OPAQUE_MARK = ".wh..wh..opq"

TAR_BLOCK = 16 * 1024
"""tarfile copies the rest of its block at each header, so that must be small."""
_CAPABILITY = "SCHILY.xattr.security.capability"


class Limits(msgspec.Struct, frozen=True):
    """`bytes`: of the uncompressed tar."""

    bytes: int
    files: int = 1_000_000


class Unpacked(msgspec.Struct, frozen=True):
    """`diff_id`: digest of the uncompressed tar. `bytes`, `files`: what was written."""

    diff_id: str
    bytes: int
    files: int


def unpack_layer(
    layer: Path, target: Path, limits: Limits, *, cancelled: Callable[[], bool] = lambda: False
) -> Unpacked:
    """Unpacks a tar (plain, gzip or zstd) into the empty directory `target`, with its owners.

    Needs the rights to give files away and to work in any directory. Blocks: run it in a thread;
    when `cancelled()` turns true it ends with CannotUnpack. After a failure the target holds a
    part. Raises CannotUnpack or NoRoom.
    """
    try:
        with open(layer, "rb") as file, closing(Rooted(target)) as rooted:
            reader = LayerStream(file, target, limits.bytes, cancelled)
            members = _Members(rooted, limits)
            reader.allow(HEADER_BYTES)  # opening reads the first header
            with tarfile.open(
                fileobj=cast(IO[bytes], reader),
                mode="r|",
                bufsize=TAR_BLOCK,
                encoding="utf-8",
                errors="surrogateescape",
            ) as tar:
                _each_member(tar, reader, members)
            members.finish()
            reader.drain()
            return Unpacked(reader.digest, members.bytes, members.files)
    except (CannotUnpack, NoRoom):
        raise
    except OSError as failure:
        if failure.errno in _DISK_FULL:
            raise NoRoom(f"cannot unpack: {failure.strerror}") from failure
        raise CannotUnpack(f"cannot unpack: {failure}") from failure
    except (Outside, tarfile.TarError) as failure:
        raise CannotUnpack(f"cannot unpack: {failure}") from failure
    except (ValueError, OverflowError) as failure:  # tarfile, on malformed headers
        raise CannotUnpack(f"cannot unpack: malformed: {failure}") from failure


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def _each_member(tar: tarfile.TarFile, reader: LayerStream, members: _Members) -> None:
    while True:
        reader.allow(HEADER_BYTES)
        member = tar.next()
        reader.allow(None)
        if member is None:
            return
        members.add(tar, member)
        cast(Any, tar).members = []  # else tarfile remembers every one


class _Members:
    """Makes the files of a layer."""

    def __init__(self, rooted: Rooted, limits: Limits) -> None:
        self.bytes = 0
        self.files = 0
        self._rooted = rooted
        self._limits = limits
        self._times: dict[tuple[str, ...], int] = {}

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self.files += 1
        if self.files > self._limits.files:
            raise CannotUnpack(f"cannot unpack: it is more than {self._limits.files} files")
        parts = split(member.name)
        if not parts:
            if member.isdir():
                self._adorn_root(member)
            return
        if parts[-1].startswith(WHITEOUT):
            self._whiteout(parts)
        elif member.isdir():
            self._directory(parts, member)
        elif member.isreg() and not member.issparse():
            self._file(parts, tar, member)
        elif member.issym():
            self._symbolic_link(parts, member)
        elif member.islnk():
            self._hard_link(parts, member)
        elif member.isfifo():
            self._fresh(parts)
            os.mkfifo(parts[-1], dir_fd=self._parent(parts))
            self._adorn(parts, member)
        elif member.ischr() and (member.devmajor, member.devminor) == (0, 0):
            self._white(parts)
        elif not member.isdev():  # real devices are left out: a container gets its own
            raise CannotUnpack(f"cannot unpack: {member.name!r} is of unknown type {member.type!r}")

    def finish(self) -> None:
        """Directories get their times last, as making files in them changes those."""
        for parts, when in self._times.items():
            with suppress(FileNotFoundError, NotADirectoryError):  # replaced since
                os.utime(self._rooted.directory(parts, make=False), ns=(when, when))

    def _parent(self, parts: tuple[str, ...]) -> int:
        return self._rooted.directory(parts[:-1])

    def _found(self, parts: tuple[str, ...], *, make: bool = True) -> os.stat_result | None:
        try:
            directory = self._rooted.directory(parts[:-1], make=make)
            return os.stat(parts[-1], dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _fresh(self, parts: tuple[str, ...]) -> None:
        """Of two members of one name the later counts."""
        if self._found(parts) is not None:
            self._rooted.remove(parts)

    def _file(self, parts: tuple[str, ...], tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.size > self._limits.bytes:
            raise CannotUnpack(f"cannot unpack: {member.name!r} has {member.size} bytes")
        self._fresh(parts)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, 0o600, dir_fd=self._parent(parts))
        with open(descriptor, "wb") as file:
            content = tar.extractfile(member)
            left = member.size if content is not None else 0
            while content is not None and left > 0:
                data = content.read(min(BLOCK, left))
                if not data:
                    raise CannotUnpack(f"cannot unpack: {member.name!r} is cut off")
                file.write(data)
                left -= len(data)
        self.bytes += member.size
        self._adorn(parts, member)

    def _directory(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        found = self._found(parts)
        if found is None or not stat.S_ISDIR(found.st_mode):
            over_whiteout = found is not None and _is_whiteout(found)
            self._fresh(parts)
            os.mkdir(parts[-1], 0o700, dir_fd=self._parent(parts))
            if over_whiteout:
                self._make_opaque(parts)
        self._adorn(parts, member)
        self._times[parts] = _nanoseconds(member.mtime)

    def _symbolic_link(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        self._fresh(parts)
        os.symlink(member.linkname, parts[-1], dir_fd=self._parent(parts))
        self._adorn(parts, member)

    def _hard_link(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        source = split(member.linkname)
        if not source or source == parts:
            raise CannotUnpack(f"cannot unpack: {member.name!r} is a hard link to itself")
        found = self._found(source, make=False)
        if found is None or stat.S_ISDIR(found.st_mode) or _is_whiteout(found):
            raise CannotUnpack(
                f"cannot unpack: {member.name!r} is a hard link to {member.linkname!r},"
                " which is no file of this layer"
            )
        self._fresh(parts)
        held = os.dup(self._parent(source))
        try:
            os.link(
                source[-1],
                parts[-1],
                src_dir_fd=held,
                dst_dir_fd=self._parent(parts),
                follow_symlinks=False,
            )
        finally:
            os.close(held)

    # -- what overlayfs must know --

    def _whiteout(self, parts: tuple[str, ...]) -> None:
        if parts[-1] == OPAQUE_MARK:
            self._make_opaque(parts[:-1])
            return
        hidden = parts[-1].removeprefix(WHITEOUT)
        if hidden.startswith(WHITEOUT):  # aufs' own bookkeeping
            return
        if hidden in {"", ".", ".."}:
            raise CannotUnpack(f"cannot unpack: a whiteout of {hidden!r}")
        self._white((*parts[:-1], hidden))

    def _white(self, parts: tuple[str, ...]) -> None:
        """Hides what lower layers have there; what this layer has there stays."""
        found = self._found(parts)
        if found is None:
            os.mknod(parts[-1], stat.S_IFCHR, os.makedev(0, 0), dir_fd=self._parent(parts))
        elif stat.S_ISDIR(found.st_mode):
            self._make_opaque(parts)

    def _make_opaque(self, parts: tuple[str, ...]) -> None:
        os.setxattr(self._rooted.directory(parts), OPAQUE, b"y")

    # -- owners, modes, times --

    def _adorn(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        name, directory = parts[-1], self._parent(parts)
        owner, group = _identity(member.uid), _identity(member.gid)
        os.chown(name, owner, group, dir_fd=directory, follow_symlinks=False)
        if not member.issym():
            os.chmod(name, member.mode & 0o7777, dir_fd=directory)  # after: chown clears setuid
            capability = member.pax_headers.get(_CAPABILITY)
            if capability is not None and member.isreg():
                value = capability.encode("utf-8", "surrogateescape")
                path = f"/proc/self/fd/{directory}/{name}"
                os.setxattr(path, "security.capability", value, follow_symlinks=False)
        when = _nanoseconds(member.mtime)
        os.utime(name, ns=(when, when), dir_fd=directory, follow_symlinks=False)

    def _adorn_root(self, member: tarfile.TarInfo) -> None:
        root = self._rooted.directory(())
        os.chown(root, _identity(member.uid), _identity(member.gid))
        os.chmod(root, member.mode & 0o7777)


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _identity(number: int) -> int:
    if not 0 <= number < 2**32 - 1:
        raise CannotUnpack(f"cannot unpack: a file of user or group {number}")
    return number


def _nanoseconds(seconds: float) -> int:
    if not 0 <= seconds < 2**33:  # NaN too
        return 0
    return int(seconds * 1_000_000_000)
