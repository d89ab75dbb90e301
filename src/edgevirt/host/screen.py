"""Where a diagnosis is shown: a screen that is drawn anew, a serial line, or a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
_CONSOLES: Final = Path("/sys/class/tty/console/active")
_SCREEN: Final = Path("/dev/tty1")


class Screen(Protocol):
    def show(self, lines: Sequence[str]) -> None:
        """The whole of it. Never raises: nobody may be there to see."""
        ...


class TerminalScreen:
    """A screen of the machine: what was there is wiped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def show(self, lines: Sequence[str]) -> None:
        _write(self._path, _CLEAR + "".join(f"{line}\r\n" for line in lines))


class SerialScreen:
    """A line that somebody may record: what is new is added to it, and nothing repeated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before: frozenset[str] = frozenset()

    def show(self, lines: Sequence[str]) -> None:
        news = [line for line in lines if line and line not in self._before]
        self._before = frozenset(lines)
        _write(self._path, "".join(f"edgevirt: {line}\r\n" for line in news))


class FileScreen:
    """A file that is whole at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def show(self, lines: Sequence[str]) -> None:
        part = self._path.with_name(f".{self._path.name}.part")
        with contextlib.suppress(OSError):
            part.write_text("".join(f"{line}\n" for line in lines))
            part.chmod(0o644)
            part.replace(self._path)


def screens_of_the_machine() -> list[Screen]:
    """Its first terminal, and every serial line that the kernel was told to use as a console."""
    found: list[Screen] = []
    if _SCREEN.exists():
        found.append(TerminalScreen(_SCREEN))
    try:
        names = _CONSOLES.read_text().split()
    except OSError:
        names = []
    found += [SerialScreen(Path("/dev", name)) for name in names if not _is_terminal(name)]
    return found


def _is_terminal(name: str) -> bool:
    return name.startswith("tty") and name[3:].isdigit()


def _write(path: Path, text: str) -> None:
    """A line that takes no more is left alone: whoever reads it is gone, or slow."""
    if not text:
        return
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = text.encode()
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
