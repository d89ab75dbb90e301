"""A domain's console: between its terminal, its log and whoever is attached.

Nobody holds the domain up: of what it says, a viewer that is slow misses what it did not take. One
may be attached at a time; another one waits in the queue, and hears nothing. What is typed waits
until the domain takes it. Only the standard library is used, as the keeper runs without more.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
import tty
from pathlib import Path
from typing import Final

_CHUNK: Final = 4096
_LAST_SECONDS: Final = 0.2


def listen(path: Path) -> socket.socket:
    """Where viewers come. Raises OSError."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(2)
    listening.setblocking(False)
    return listening


class Console:
    """`log`: a descriptor for all that the domain says."""

    def __init__(self, log: int, listening: socket.socket) -> None:
        self._log = log
        self._listening = listening
        self._terminal = -1
        self._viewer: socket.socket | None = None
        self._typed = b""

    def open(self, name: str) -> None:
        """The terminal of a domain that was just made. Raises OSError."""
        self._terminal = os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(termios.error):
            tty.setraw(self._terminal, termios.TCSANOW)  # what waits is kept

    def wait(self, other: int) -> bool:
        """Passes on what there is, once; whether `other` can be read."""
        readers: list[int | socket.socket] = [other, self._viewer or self._listening]
        if self._typed:
            readers.pop()  # no more is taken than the domain takes
        if self._terminal >= 0:
            readers.append(self._terminal)
        writers = [self._terminal] if self._typed and self._terminal >= 0 else []
        readable, writable, _ = select.select(readers, writers, ())
        if self._terminal in readable:
            self._pass_on()
        if self._viewer is not None and self._viewer in readable:
            self._listen_to(self._viewer)
        elif self._listening in readable:
            with contextlib.suppress(OSError):  # it went away again
                self._viewer, _ = self._listening.accept()
                self._viewer.setblocking(False)
        if writable or (self._typed and self._terminal >= 0):
            self._type()
        return other in readable

    def finish(self) -> None:
        """The domain has ended: its last words, and no terminal any more."""
        while self._terminal >= 0 and select.select((self._terminal,), (), (), _LAST_SECONDS)[0]:
            self._pass_on()
        self._close_terminal()

    def close(self) -> None:
        self._close_terminal()
        self._let_go()
        self._listening.close()

    def _pass_on(self) -> None:
        try:
            said = os.read(self._terminal, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._close_terminal()
        rest = said
        while rest:
            rest = rest[os.write(self._log, rest) :]
        if self._viewer is not None and said:
            try:
                self._viewer.send(said)
            except BlockingIOError:
                pass
            except OSError:
                self._let_go()

    def _listen_to(self, viewer: socket.socket) -> None:
        try:
            self._typed = viewer.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._typed = b""
        if not self._typed:
            self._let_go()
        elif self._terminal < 0:
            self._typed = b""  # nobody hears it

    def _type(self) -> None:
        try:
            self._typed = self._typed[os.write(self._terminal, self._typed) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close_terminal()  # what it said last was read before

    def _close_terminal(self) -> None:
        if self._terminal >= 0:
            os.close(self._terminal)
        self._terminal = -1
        self._typed = b""

    def _let_go(self) -> None:
        if self._viewer is not None:
            self._viewer.close()
        self._viewer = None
