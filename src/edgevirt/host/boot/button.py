"""The power button on the box, and on a keyboard: who presses it wants the machine to end in order.

The kernel tells it as a key (linux/input.h; its drivers are `button` and `evdev`).
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

_SYS: Final = Path("/sys/class/input")
_EVENT: Final = "qqHHi"
"""Seconds, microseconds; type, code, value."""
_KEY, _POWER, _DOWN = 1, 116, 1
_READ: Final = 64 * struct.calcsize(_EVENT)


def open_buttons(sys: Path = _SYS, devices: Path = Path("/dev/input")) -> tuple[int, ...]:
    """A descriptor of each that is there, not blocking; the caller's to close."""
    found = []
    for entry in sorted(sys.glob("event*")) if sys.is_dir() else ():
        if _has_power(entry / "device/capabilities/key"):
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                found.append(os.open(devices / entry.name, flags))
    return tuple(found)


def _has_power(keys: Path) -> bool:
    """A bit for each key, in words of 64: the highest first."""
    bits = 0
    try:
        for word in keys.read_text().split():
            bits = bits << 64 | int(word, 16)
    except (OSError, ValueError):
        return False
    return bool(bits >> _POWER & 1)


def is_pressed(button: int) -> bool:
    """What it tells since the last time. Raises OSError when it is gone."""
    try:
        told = os.read(button, _READ)
    except BlockingIOError:
        return False
    whole = len(told) - len(told) % struct.calcsize(_EVENT)
    events = struct.iter_unpack(_EVENT, told[:whole])
    return any((kind, key, value) == (_KEY, _POWER, _DOWN) for _, _, kind, key, value in events)
