"""Words on the machine's own screens, before there is any log to write them into."""

from __future__ import annotations

import contextlib
import os
import select
import termios
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ACTIVE: Final = Path("/sys/class/tty/console/active")
_LAST: Final = "/dev/console"


def take_console() -> None:
    """Standard input is empty, output and errors go to the kernel's console."""
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    with contextlib.suppress(OSError):  # what the boot loader's stage left is as good
        console = os.open(_LAST, os.O_WRONLY | os.O_NOCTTY)
        os.dup2(console, 1)
        os.dup2(console, 2)
        if console > 2:
            os.close(console)


def say(text: str) -> None:
    """To every console that the kernel was told of. Never fails, never blocks for long."""
    line = f"edgevirt: {text}\r\n".encode(errors="replace")
    for name in _consoles():
        with contextlib.suppress(OSError):
            screen = os.open(f"/dev/{name}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                os.write(screen, line)
            finally:
                os.close(screen)


def await_enter(seconds: float, consoles: Iterable[str] = ()) -> bool:
    """True as soon as somebody presses Enter on a console, False when `seconds` are over.

    What was typed before it was asked for does not count. `consoles`: names below `/dev`; none: the
    kernel's.
    """
    keyboards = []
    for name in consoles or _consoles():
        with contextlib.suppress(OSError):
            keyboards.append(os.open(f"/dev/{name}", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
            with contextlib.suppress(termios.error):
                termios.tcflush(keyboards[-1], termios.TCIFLUSH)
    try:
        return bool(select.select(keyboards, [], [], seconds)[0])
    finally:
        for keyboard in keyboards:
            os.close(keyboard)


def _consoles() -> Iterable[str]:
    try:
        return _ACTIVE.read_text().split() or ["console"]
    except OSError:
        return ["console"]
