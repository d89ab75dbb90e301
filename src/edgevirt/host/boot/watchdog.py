"""The machine's watchdog: a timer in hardware that resets the machine unless it is fed.

It is not told to stop when its user goes: whoever feeds it next must come in time. API: the
kernel's Documentation/watchdog/watchdog-api.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

_SYS: Final = Path("/sys/class/watchdog")
_SET_TIMEOUT, _GET_TIMEOUT = 0xC004_5706, 0x8004_5707
_CARD_RESET: Final = 0x20
_SOFTWARE: Final = "software watchdog"


class Watchdog(msgspec.Struct):
    """Armed ones; there may be several, and one of them not wired to a reset."""

    names: tuple[str, ...]
    timeout: float
    """Seconds without being fed, until the reset."""
    _fds: tuple[int, ...]

    def feed(self) -> None:
        for fd in self._fds:
            with suppress(OSError):  # it will bite; nothing else helps
                os.write(fd, b"\0")

    def allow(self, seconds: float) -> None:
        """A new timeout, and feeds them. What the hardware cannot do it rounds, or refuses."""
        request = struct.pack("i", int(seconds))
        for fd in self._fds:
            with suppress(OSError):
                fcntl.ioctl(fd, _SET_TIMEOUT, request)
        self.timeout = min(map(_timeout, self._fds))
        self.feed()


def arm(seconds: float, devices: Path = Path("/dev")) -> Watchdog | None:
    """All real hardware; the kernel's own timer where there is none. None: there is none that we
    can have.
    """
    names, software = _by_worth()
    for chosen in (names, software):
        opened = {name: fd for name in chosen if (fd := _open(devices / name)) is not None}
        if opened:
            known = tuple(_identity(name) or name for name in opened)
            found = Watchdog(known, seconds, tuple(opened.values()))
            found.allow(seconds)
            return found
    return None


def was_reset() -> bool:
    """It was what started the machine anew, as far as the kernel knows without its being opened."""
    for name in _by_worth()[0]:
        try:
            status = int((_SYS / name / "bootstatus").read_text())
        except (OSError, ValueError):
            continue
        if status & _CARD_RESET:
            return True
    return False


def _open(device: Path) -> int | None:
    try:
        return os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _by_worth() -> tuple[list[str], list[str]]:
    """Those of the hardware, and the kernel's own."""
    if not _SYS.is_dir():
        return [], []
    names = sorted(path.name for path in _SYS.iterdir())
    software = [name for name in names if _identity(name).lower() == _SOFTWARE]
    return [name for name in names if name not in software], software


def _identity(name: str) -> str:
    try:
        return (_SYS / name / "identity").read_text().strip()
    except OSError:
        return ""


def _timeout(fd: int) -> float:
    try:
        return float(struct.unpack("i", fcntl.ioctl(fd, _GET_TIMEOUT, bytes(4)))[0])
    except OSError:
        return 60.0
