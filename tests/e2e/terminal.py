"""A person at a terminal, as tests want one."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.e2e.system import System

PATIENCE = 60.0


class Terminal:
    """`edgevirt …` at a terminal of its own."""

    def __init__(self, system: System, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "KUBECONFIG": str(system.fleet.kubeconfig)}
        command = [sys.executable, "-m", "edgevirt", *words]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def shows(self, text: str, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while text not in self.shown:
            left = end - time.monotonic()
            assert left > 0, f"no {text!r} in {self.shown!r}"
            if select.select([self._ours], [], [], left)[0]:
                try:
                    self.shown += os.read(self._ours, 4096).decode(errors="replace")
                except OSError:  # the other end is closed
                    assert text in self.shown, f"no {text!r} in {self.shown!r}"

    def close(self) -> int:
        os.close(self._ours)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def terminal(system: System, *words: str) -> Iterator[Terminal]:
    made = Terminal(system, *words)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()
