"""The partition that keeps what the node must not lose: made once, repaired, mounted, never wiped.

A partition that holds anything, or may, is never formatted: what cannot be mounted stays as it is
for somebody who can read it, and the node runs without it.
"""

from __future__ import annotations

import enum
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgevirt.host.stage import mount

_MS_NOSUID, _MS_NODEV, _MS_NOATIME = 2, 4, 1024
_HEAD: Final = 1 << 20
"""Bytes; every file system in use is known by something that stands in them."""
_SUPERBLOCK: Final = 1024
_MOUNTED_AT: Final = 44
"""Offset in ext4's superblock of the time of its last mount; 0: never."""
_EXT_MAGIC_AT, _EXT_MAGIC = 56, 0xEF53
_MAKE_SECONDS, _CHECK_SECONDS = 300.0, 3600.0
_LOOK: Final = 1.0
_TMPFS_SHARE: Final = "25%"


class Holds(enum.Enum):
    NOTHING = "nothing"
    UNUSED_EXT4 = "an ext4 file system that was never mounted"
    EXT4 = "ext4"
    UNKNOWN = "something that is not ours"


class PersistError(Exception):
    """«cannot X: why»."""


def look(device: Path) -> Holds:
    """What is in a partition. Raises PersistError when it cannot be read."""
    try:
        with device.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise PersistError(f"cannot read {device}: {error.strerror or error}") from error
    if not head.strip(b"\0"):
        return Holds.NOTHING
    superblock = head[_SUPERBLOCK : 2 * _SUPERBLOCK]
    if len(superblock) < _SUPERBLOCK:
        return Holds.UNKNOWN
    if struct.unpack_from("<H", superblock, _EXT_MAGIC_AT)[0] != _EXT_MAGIC:
        return Holds.UNKNOWN
    mounted = struct.unpack_from("<I", superblock, _MOUNTED_AT)[0]
    return Holds.EXT4 if mounted else Holds.UNUSED_EXT4


def open_persist(device: Path, target: Path, alive: Callable[[], None] = lambda: None) -> str:
    """Mounts it. Returns what was done besides, in words («made»); raises PersistError, and then
    nothing in the partition was lost by us. `alive` is called while a program works on it, which
    takes hours where a large disk has to be repaired.
    """
    found = look(device)
    if found is Holds.UNKNOWN:
        raise PersistError(f"cannot use {device}: it holds {found.value}; it is left as it is")
    done = ""
    if found is Holds.NOTHING:
        _make(device, alive)
        done = "made"
    elif found is Holds.UNUSED_EXT4 and _check(device, alive) is None:
        _make(device, alive)  # a power cut in the middle of its making
        done = "made again"
    elif found is Holds.EXT4:
        said = _check(device, alive)
        if said is None:
            raise PersistError(f"cannot repair the file system on {device}; it is left as it is")
        done = said
    try:
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOATIME
        mount(str(device), target, "ext4", flags, "errors=remount-ro")
    except OSError as error:
        raise PersistError(f"cannot mount {device}: {error.strerror or error}") from error
    return done


def open_nothing(target: Path) -> None:
    """In its place something that forgets, so that the node can at least be reached."""
    options = f"mode=711,size={_TMPFS_SHARE}"
    mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, options)


def _make(device: Path, alive: Callable[[], None]) -> None:
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    command = ["mkfs.ext4", "-q", "-F", "-m", "1", "-L", "P3", "-O", "encrypt", "-E", options]
    code, said = _run([*command, str(device)], _MAKE_SECONDS, alive)
    if code != 0:
        raise PersistError(f"cannot make a file system on {device}: {said}")


_CLEAN, _CORRECTED = 0, 3
"""e2fsck(8): 1 and 2 say that errors were corrected, 4 that some are left."""


def _check(device: Path, alive: Callable[[], None]) -> str | None:
    """Replays the journal, repairs. What was done, in words; None when errors are left."""
    for option, done in (("-p", "repaired"), ("-y", "repaired; files may be lost")):
        code, _ = _run(["e2fsck", option, str(device)], _CHECK_SECONDS, alive)
        if code == _CLEAN:
            return ""
        if code <= _CORRECTED:
            return done
    return None


def _run(command: list[str], seconds: float, alive: Callable[[], None]) -> tuple[int, str]:
    deadline = time.monotonic() + seconds
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as work:
            while True:
                try:
                    out, err = work.communicate(timeout=_LOOK)
                except subprocess.TimeoutExpired:
                    alive()
                    if time.monotonic() < deadline:
                        continue
                    work.kill()
                    return 126, f"no answer in {seconds:.0f} s"
                return work.returncode, " ".join((err or out).split())[-300:]
    except FileNotFoundError:
        return 127, f"{command[0]} is not installed"
