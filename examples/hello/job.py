"""The programs that the example starts: what they print goes into logs, and all of them end."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

out = Console(highlight=False)


class Failed(Exception):
    """«cannot X: why», for whoever runs the example."""


class Interrupts:
    """Ctrl-C: once, and never between the start of a program and our knowing of it.

    Not a KeyboardInterrupt: where one strikes while a module is being made, Python ends by SIGINT,
    also when it was caught.
    """

    def __init__(self) -> None:
        self._asked = False
        self._held = False

    def __call__(self, *_: object) -> None:
        first, self._asked = not self._asked, True
        if first and not self._held:
            raise SystemExit(0)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            raise SystemExit(0)


interrupts = Interrupts()


class Job:
    """The programs that were started, ended in reverse."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.logs = state / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.stop_first: Callable[[], None] = lambda: None
        """Ends what needs the programs while it ends."""
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *command: str) -> None:
        """In a session of its own: Ctrl-C is for us, and we end it in order."""
        with interrupts.held(), (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._running.append((name, process))

    def check(self) -> None:
        """Raises Failed when a program has ended."""
        for name, process in self._running:
            if process.poll() is not None:
                tail = (self.logs / f"{name}.log").read_text(errors="replace")[-1500:]
                raise Failed(f"cannot go on: the {name} ended ({process.returncode}):\n{tail}")

    def stop(self) -> None:
        self.stop_first()
        for name, process in reversed(self._running):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    out.print(f"  the {name} does not end by itself; killed")
                    process.kill()
                    process.wait()
