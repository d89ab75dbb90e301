"""Who is asked to press Enter presses it then: not before, and not once for two questions."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from edgevirt.host.boot.console import await_enter

PATIENCE = 30.0


@dataclass(frozen=True)
class Terminal:
    """`name`: below `/dev`. `hand`: where somebody types."""

    name: str
    hand: int


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Somebody holds it open, as process 1 does: what was typed stays."""
    hand, screen = pty.openpty()
    try:
        yield Terminal(os.ttyname(screen).removeprefix("/dev/"), hand)
    finally:
        os.close(hand)
        os.close(screen)


def press_soon(terminal: Terminal) -> None:
    threading.Timer(0.2, os.write, (terminal.hand, b"\n")).start()


def test_enter_ends_the_wait(terminal: Terminal) -> None:
    press_soon(terminal)
    assert await_enter(PATIENCE, [terminal.name])


def test_another_key_is_not_enter(terminal: Terminal) -> None:
    threading.Timer(0.05, os.write, (terminal.hand, b"x")).start()
    assert not await_enter(0.3, [terminal.name])


def test_what_was_typed_before_does_not_count(terminal: Terminal) -> None:
    os.write(terminal.hand, b"\n")
    assert not await_enter(0.2, [terminal.name])


def test_one_press_answers_one_question(terminal: Terminal) -> None:
    press_soon(terminal)
    assert await_enter(PATIENCE, [terminal.name])
    assert not await_enter(0.2, [terminal.name])


def test_without_a_console_the_wait_ends_by_itself() -> None:
    assert not await_enter(0.05, ["no-such-console"])
