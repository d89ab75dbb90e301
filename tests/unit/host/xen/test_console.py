"""A console whose terminal goes away under those who are at it."""

from __future__ import annotations

import os
import pty
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevirt.host.xen.console import Console, listen


class AtConsole:
    """Somebody at the console of a domain whose terminal is the other end of `master`."""

    def __init__(self, path: Path) -> None:
        self.master, slave = pty.openpty()
        self.console = Console(os.open(os.devnull, os.O_WRONLY), listen(path))
        self.console.open(os.ttyname(slave))
        os.close(slave)
        self.viewer = socket.socket(socket.AF_UNIX)
        self.viewer.connect(str(path))
        self.wakes, self._wake = socket.socketpair()
        self.turn()

    def turn(self) -> None:
        """One round, whatever there is to pass on."""
        self._wake.send(b"x")
        self.console.wait(self.wakes.fileno())
        self.wakes.recv(1)

    def close(self) -> None:
        self.console.close()
        for end in (self.viewer, self.wakes, self._wake):
            end.close()


@pytest.fixture
def at(tmp_path: Path) -> Iterator[AtConsole]:
    made = AtConsole(tmp_path / "console")
    yield made
    made.close()


def test_what_is_typed_at_a_terminal_that_just_went_ends_no_keeper(at: AtConsole) -> None:
    at.console._typed = b"typed"
    os.close(at.master)
    at.console._type()  # before it was seen to have gone
    at.turn()


def test_what_is_typed_where_no_terminal_is_keeps_nobody_from_leaving(at: AtConsole) -> None:
    os.close(at.master)
    at.turn()
    at.viewer.send(b"typed")
    at.turn()
    at.viewer.close()
    at.turn()
    assert at.console._viewer is None
