"""The light on the box, where the kernel knows one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, Protocol

_LEDS: Final = Path("/sys/class/leds")
_LIKELY: Final = ("status", "sys", "heartbeat", "power", "act")
"""Parts of names that boards give to a light for the whole machine, the likeliest first."""
_NOT_OURS: Final = ("lock", "kana", "compose", "mmc", "phy", "eth", "wlan", "disk")


class Light(Protocol):
    def shine(self, on: bool) -> None:
        """Never raises."""
        ...


class NoLight:
    def shine(self, on: bool) -> None:
        """There is none."""


class KernelLight:
    def __init__(self, path: Path) -> None:
        self._path = path
        with contextlib.suppress(OSError):
            (path / "trigger").write_text("none")

    def shine(self, on: bool) -> None:
        with contextlib.suppress(OSError):
            (self._path / "brightness").write_text("1" if on else "0")


def light_of_the_machine(leds: Path = _LEDS) -> Light:
    try:
        names = sorted(entry.name for entry in leds.iterdir())
    except OSError:
        return NoLight()
    ours = [name for name in names if not any(word in name.lower() for word in _NOT_OURS)]
    for word in _LIKELY:
        for name in ours:
            if word in name.lower():
                return KernelLight(leds / name)
    return NoLight()
