"""Mounts for domains: overlays, file systems in files, and taking them down again.

Python 3.11 has no `mount`; the calls go to libc. A loop device needs several steps, which
mount(8) knows.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from edgevirt.host import ext4
from edgevirt.host.files import DiskError, sync_file, sync_file_system

_MS_RDONLY, _MS_NODEV = 1, 4
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_LOOP_SET_CAPACITY = 0x4C07
_MAX_LAYERS = 200
"""What fits into the one page that mount(2) takes."""
_MOUNT_SECONDS = 30.0
_RELEASE_SECONDS, _LOOK_SECONDS = 10.0, 0.01

_libc = ctypes.CDLL(None, use_errno=True)


class MountError(Exception):
    """«cannot mount X: why»."""


def overlay(target: Path, layers: Sequence[Path], upper: Path | None, work: Path | None) -> None:
    """Mounts `layers`, lowest first, with `upper` on top. Device files in it have no effect.

    Without an `upper` nobody can write, and there are two layers at least (the kernel's rule).

    The directories are passed as open files: no length and no character of a path matters.
    """
    if not 0 < len(layers) <= _MAX_LAYERS:
        raise MountError(f"cannot mount {target}: {len(layers)} layers, not 1 to {_MAX_LAYERS}")
    with ExitStack() as opened:

        def name(directory: Path) -> str:
            try:
                fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as failure:
                raise MountError(f"cannot mount {target}: {failure}") from failure
            opened.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        lower = ":".join(name(layer) for layer in reversed(layers))
        # opaque directories are marked in user.overlay: the unpacker has no right to trusted ones
        if upper is None or work is None:
            _mount(
                "overlay", target, "overlay", _MS_NODEV | _MS_RDONLY, f"lowerdir={lower},userxattr"
            )
            return
        options = f"lowerdir={lower},upperdir={name(upper)},workdir={name(work)},userxattr"
        _mount("overlay", target, "overlay", _MS_NODEV, options)


def image(target: Path, file: Path, *, readonly: bool) -> None:
    """Mounts the ext4 file system in `file`; its loop device goes when it is unmounted.

    Blocking; may take as long as a journal's replay.
    """
    options = "loop,nosuid,nodev,errors=remount-ro" + (",ro" if readonly else "")
    command = ["mount", "-t", "ext4", "-o", options, "--", str(file), str(target)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_MOUNT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as failure:
        raise MountError(f"cannot mount {file}: no answer in {_MOUNT_SECONDS:.0f} s") from failure
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise MountError(f"cannot mount {file} as ext4: {said}")


def enlarge(directory: Path, file: Path, size: int) -> None:
    """Makes a file `size` bytes long, if it is shorter, and the file system in it as big, which is
    mounted at or below `directory`. Idempotent. Blocks. Raises MountError.
    """
    try:
        if file.stat().st_size < size:
            os.truncate(file, size)
            sync_file(file)
        for point, source in _table(directory):
            if source.startswith("/dev/loop") and _is_behind(source, file):
                _tell_size(source)
                ext4.fill(point, file)
    except (OSError, DiskError) as failure:
        raise MountError(f"{failure}") from failure


def fill(directory: Path) -> str:
    """Makes each file system that is mounted from a file at or below `directory` as big as that
    file. Blocks. Empty, or why one is not: «cannot X: why».
    """
    for point, source in _table(directory):
        file = _backing(source) if source.startswith("/dev/loop") else ""
        try:
            if file and os.access(point, os.W_OK):
                ext4.fill(point, Path(file))
        except DiskError as failure:
            return str(failure)
    return ""


def _is_behind(device: str, file: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(_backing(device), file)
    return False


def _tell_size(device: str) -> None:
    """That its file has become longer."""
    opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(opened, _LOOP_SET_CAPACITY, 0)
    finally:
        os.close(opened)


def below(directory: Path) -> list[Path]:
    """Mount points at and below `directory`, the latest mount first."""
    return [point for point, _ in _table(directory)]


def _table(directory: Path) -> list[tuple[Path, str]]:
    """Mount points at and below `directory` and their sources, the latest mount first."""
    top = os.path.realpath(directory)
    found = []
    table = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    for line in table.splitlines():
        point = _unescape(line.split(" ")[4])
        if point == top or point.startswith(top + "/"):
            found.append((Path(point), line.rpartition(" - ")[2].split(" ")[1]))
    return found[::-1]


def unmount_below(directory: Path) -> None:
    """Takes down every mount at and below `directory`. Blocking: a file system is written out.

    A busy one is detached: it ends with its last user. When this returns, the files that held file
    systems are nobody's any more: they may be copied, replaced, mounted again. Raises MountError
    when a mount stays, or a file is not let go.
    """
    mounted = _table(directory)
    loops = {source: _backing(source) for _, source in mounted if source.startswith("/dev/loop")}
    for point, source in mounted:
        if source in loops:
            with suppress(OSError):
                sync_file_system(point)
        if _libc.umount2(os.fsencode(point), _UMOUNT_NOFOLLOW) == 0:
            continue
        if ctypes.get_errno() == errno.EBUSY:
            _libc.umount2(os.fsencode(point), _UMOUNT_NOFOLLOW | _MNT_DETACH)
    left = below(directory)
    if left:
        raise MountError(f"cannot unmount {left[0]}")
    deadline = time.monotonic() + _RELEASE_SECONDS
    for source, file in loops.items():
        # a namespace that has just ended keeps its mounts for a moment
        while file and _backing(source) == file:
            if time.monotonic() > deadline:
                raise MountError(f"cannot let go of {file}: {source} is still in use")
            time.sleep(_LOOK_SECONDS)


def _backing(device: str) -> str:
    """The file behind a loop device; empty: none."""
    with suppress(OSError):
        name = device.removeprefix("/dev/")
        return Path(f"/sys/block/{name}/loop/backing_file").read_text().strip()
    return ""


def _mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind),
        ctypes.c_ulong(flags),
        os.fsencode(options),
    )
    if result != 0:
        code = ctypes.get_errno()
        raise MountError(f"cannot mount {kind} on {target}: {os.strerror(code)}")


def _unescape(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    head, *rest = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
