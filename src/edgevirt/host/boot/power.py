"""The end of a machine's run: everything stops, what was written is on disk, then the reset."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_AUTOBOOT, _POWER_OFF = 0x0123_4567, 0x4321_FEDC  # linux/reboot.h
_MS_RDONLY, _MS_REMOUNT = 1, 32
_KEPT: Final = frozenset({"/", "/proc", "/sys", "/dev", "/run"})
_ROUNDS: Final = 3

_libc = ctypes.CDLL(None, use_errno=True)


def end_processes(seconds: float) -> None:
    """All but this one, which is process 1: asked first, then killed."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and _reap():
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and _reap():
        time.sleep(0.02)


def _reap() -> bool:
    """False when no child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def release_disks() -> list[str]:
    """Takes down what is mounted, the latest first; what stays is made read-only. Returns the mount
    points that may lose their last writes.
    """
    os.sync()
    for _ in range(_ROUNDS):
        for point in reversed(_mounted()):
            if point not in _KEPT:
                _libc.umount2(os.fsencode(point), 0)
    left = [p for p in _mounted() if _is_on_disk(p) and _remount_readonly(p) != 0]
    os.sync()
    return left


def _mounted() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split(" ")[1].replace("\\040", " ") for line in lines]


def _is_on_disk(point: str) -> bool:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, where, _, options, *_ = line.split(" ")
        if where == point and source.startswith("/dev/") and "ro" not in options.split(","):
            return True
    return False


def _remount_readonly(point: str) -> int:
    flags = ctypes.c_ulong(_MS_REMOUNT | _MS_RDONLY)
    return int(_libc.mount(None, os.fsencode(point), None, flags, None))


def reset() -> None:
    """Starts the machine anew, now. Returns only when the kernel refuses."""
    _libc.reboot(_AUTOBOOT)


def power_off() -> None:
    """As `reset`; a machine that cannot switch itself off stands still."""
    _libc.reboot(_POWER_OFF)


def take_over_keys() -> None:
    """Ctrl-Alt-Del asks process 1 to end, instead of resetting the machine at once."""
    _libc.reboot(0)  # RB_DISABLE_CAD
