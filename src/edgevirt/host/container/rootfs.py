"""Reading and writing in a container's root file system, which may be hostile.

Every path is resolved inside it, as a process chrooted there would: no symbolic link leads out,
and nothing but regular files of a sane size is read.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from pathlib import Path

import msgspec

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_MAX_FILE = 1 << 20
_MAX_ID = (1 << 32) - 2

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class NoSuchUser(Exception):
    """«no user X»: the image names one that its /etc/passwd or /etc/group doesn't."""


class User(msgspec.Struct, frozen=True):
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary; the primary one is among them (else a file's denial to it has a way round)."""


def resolve_user(root: Path, wanted: str) -> User:
    """`user`, `uid`, `user:group`, `uid:gid` or nothing, by the image's own files.

    As Docker does: a number need not be listed, a name must; supplementary groups are those
    that list the user, unless a group is given. Raises NoSuchUser.
    """
    name, _, group = wanted.partition(":")
    uid, gid, login = _find_user(root, name or "0")
    if group:
        gid = _find_group(root, group)
        return User(uid, gid, (gid,))
    return User(uid, gid, _groups_of(root, login, gid))


def read_text(root: Path, path: str) -> str:
    """Empty when there is no such regular file, or it is bigger than 1 MiB."""
    try:
        fd = _open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO):
            return ""
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE:
            return ""
        return os.read(fd, _MAX_FILE).decode(errors="replace")
    finally:
        os.close(fd)


def write_file(root: Path, path: str, content: bytes, mode: int) -> None:
    """Instead of what is there by that name, if anything but a directory is; with the directories
    above it. `path`: full, without `..`. Raises OSError.
    """
    above, _, name = path.rpartition("/")
    directory = _make_directories(root, above)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        opened = os.open(name, flags, mode, dir_fd=directory)
        with open(opened, "wb") as file:
            os.fchmod(opened, mode)
            file.write(content)
    except OSError as failure:
        raise OSError(failure.errno, f"cannot write {path}: {failure.strerror}") from failure
    finally:
        os.close(directory)


def _make_directories(root: Path, path: str) -> int:
    """Its descriptor. A link that leads nowhere is in the way, not followed to what is made."""
    so_far, opened = "", _open_inside(root, "/", _DIRECTORY)
    for part in path.split("/")[1:]:
        so_far += f"/{part}"
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=opened)
        finally:
            os.close(opened)
        opened = _open_inside(root, so_far, _DIRECTORY)
    return opened


def _open_inside(root: Path, path: str, flags: int) -> int:
    """Raises OSError."""
    top = os.open(root, _DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        fd = _libc.syscall(_OPENAT2, top, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        code = ctypes.get_errno()
    finally:
        os.close(top)
    if fd < 0:
        raise OSError(code, f"cannot open {path} in {root}: {os.strerror(code)}")
    return int(fd)


def _find_user(root: Path, name: str) -> tuple[int, int, str]:
    """(uid, gid, login name)."""
    for fields in _table(root, "/etc/passwd", columns=4, ids=(2, 3)):
        if name == fields[0] or (_is_id(name) and int(fields[2]) == int(name)):
            return int(fields[2]), int(fields[3]), fields[0]
    if _is_id(name):
        return int(name), 0, ""
    raise NoSuchUser(f"no user {name!r} in the image's /etc/passwd")


def _find_group(root: Path, name: str) -> int:
    if _is_id(name):
        return int(name)
    for fields in _table(root, "/etc/group", columns=3, ids=(2,)):
        if name == fields[0]:
            return int(fields[2])
    raise NoSuchUser(f"no group {name!r} in the image's /etc/group")


def _groups_of(root: Path, login: str, primary: int) -> tuple[int, ...]:
    found = {
        int(fields[2])
        for fields in _table(root, "/etc/group", columns=4, ids=(2,))
        if login and login in fields[3].split(",")
    }
    return tuple(sorted(found | {primary}))


def _table(root: Path, path: str, *, columns: int, ids: tuple[int, ...]) -> list[list[str]]:
    """The lines that have so many columns, and ids where they belong; the others don't count."""
    rows = (line.strip().split(":") for line in read_text(root, path).splitlines())
    return [
        row
        for row in rows
        if len(row) >= columns and row[0] and all(_is_id(row[column]) for column in ids)
    ]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID
