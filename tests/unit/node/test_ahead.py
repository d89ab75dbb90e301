"""A supervisor that was started before the machine is ready, below a process 1 of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

_PROGRAM = """
import os, sys, time
from edgevirt.node.ahead import Ahead
from edgevirt.node.init import be_init

def get_ready():
    if {fails!r} == "at once":
        raise RuntimeError("no code")
    return ["ready"]

def go_on(ready, told):
    if {fails!r} == "later":
        os.kill(os.getpid(), 9)
    return 64 if (ready, told) == (["ready"], b"x" * 200_000) else 1

def start(fresh):
    return 65 if not fresh else 1

ahead = Ahead(get_ready, go_on)
time.sleep({pause})
ahead.tell(b"x" * 200_000)
sys.exit(be_init(start, 1.0, 3, ahead.pid))
"""


def run(fails: str, pause: float = 0.0) -> int:
    program = _PROGRAM.format(fails=fails, pause=pause)
    command = ["unshare", "--fork", "--pid", "--mount-proc", sys.executable, "-c", program]
    return subprocess.run(command, timeout=50, check=False).returncode


def test_what_is_told_reaches_it_when_it_is_ready() -> None:
    assert run("never") == 64


def test_one_that_dies_is_followed_by_another_that_knows_that_it_is_not_the_first() -> None:
    assert run("later", pause=0.2) == 65


def test_one_that_could_not_load_its_code_is_followed_too_when_it_ended_before_it_was_told() -> (
    None
):
    assert run("at once", pause=0.5) == 65
