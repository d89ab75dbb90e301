"""The machine's watchdog: a timer in hardware that resets the machine unless it is fed.

It is not told to stop when its user goes: whoever feeds it next must come in time. API: the
kernel's Documentation/watchdog/watchdog-api.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SYS: Final = Path("/sys/class/watchdog")
_SET_TIMEOUT, _GET_TIMEOUT = 0xC004_5706, 0x8004_5707
_CARD_RESET: Final = 0x20
_SOFTWARE: Final = "software watchdog"


@dataclass
class Watchdog:
    """An armed one."""

    name: str
    timeout: float
    """Seconds without being fed, until the reset."""
    _fd: int

    def feed(self) -> None:
        with suppress(OSError):  # it will bite; nothing else helps
            os.write(self._fd, b"\0")

    def allow(self, seconds: float) -> None:
        """A new timeout, and feeds it. What the hardware cannot do it rounds, or refuses."""
        with suppress(OSError):
            request = struct.pack("i", int(seconds))
            (self.timeout,) = struct.unpack("i", fcntl.ioctl(self._fd, _SET_TIMEOUT, request))
        self.feed()


def arm(seconds: float, devices: Path = Path("/dev")) -> Watchdog | None:
    """The best one that there is: real hardware before the kernel's own timer. None: there is none
    that we can have.
    """
    for name in _by_worth():
        try:
            fd = os.open(devices / name, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            continue
        found = Watchdog(_identity(name) or name, _timeout(fd), fd)
        found.allow(seconds)
        return found
    return None


def was_reset() -> bool:
    """It was what started the machine anew, as far as the kernel knows without its being opened."""
    for name in _by_worth():
        try:
            status = int((_SYS / name / "bootstatus").read_text())
        except (OSError, ValueError):
            continue
        if status & _CARD_RESET:
            return True
    return False


def _by_worth() -> list[str]:
    if not _SYS.is_dir():
        return []
    names = sorted(path.name for path in _SYS.iterdir())
    return sorted(names, key=lambda name: _identity(name).lower() == _SOFTWARE)


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
