"""Landlock: a process that gives up files it has no business with, whatever its user may reach.

A capability that goes around file permissions (a service that unpacks images needs one) stays
inside what is named here. https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_ALL_BY_VERSION = {2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_READ = _READ_FILE | _READ_DIR
_OLDEST, _NEWEST = 2, 5
"""Version 1 forbids every rename from one directory into another: of no use to us."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class FileRights(NamedTuple):
    """Files and directories, the latter with everything below. What is not there is left out."""

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    execute: tuple[Path, ...] = ()
    """Read too."""


def landlock_version() -> int:
    """0 where the kernel has none, or has it switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _GET_VERSION)))


def restrict_files(rights: FileRights) -> bool:
    """Irrevocable, for the calling thread and what it starts. Open files stay open.

    Needs no_new_privs or CAP_SYS_ADMIN. False, and no effect, where the kernel cannot.
    """
    version = min(landlock_version(), _NEWEST)
    if version < _OLDEST:
        return False
    handled = _ALL_BY_VERSION[version]
    ruleset = _call(_CREATE_RULESET, struct.pack("<Q", handled), 8, 0)
    try:
        _allow(ruleset, rights.read, _READ)
        _allow(ruleset, rights.execute, _READ | _EXECUTE)
        _allow(ruleset, rights.write, handled & ~_EXECUTE)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, paths: Iterable[Path], access: int) -> None:
    for path in paths:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            allowed = access if directory else access & _ON_FILES
            _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", allowed, fd), 0)
        finally:
            os.close(fd)


def _call(number: int, *arguments: int | bytes) -> int:
    converted = [
        ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        code = ctypes.get_errno() or errno.EINVAL
        raise OSError(code, f"cannot restrict files: {os.strerror(code)}")
    return result
