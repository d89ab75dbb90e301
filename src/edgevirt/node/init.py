"""The first process of a node: reaps, and starts the supervisor again if it dies.

Containers' monitors are its children, so they outlive the services and the supervisor. When it
ends, the kernel ends every process of the node.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.rights.death import die_with

_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
STOPPED: Final = 0
REBOOT: Final = 64
SHUTDOWN: Final = 65
"""Exit codes of a node: it was asked to stop, is to start again, or to end."""
_LOST: Final = 1
"""Exit code of a supervisor that could not run."""
LOST_FOR_GOOD: Final = 66
_YOUNG: Final = 3.0
"""Seconds: a first supervisor that fails before, and was started here, cannot run at all."""
_LONGEST_PAUSE: Final = 30.0

Supervise = Callable[[bool], int]
"""Runs the supervisor: told whether the node starts. Returns the exit code."""


def fork_supervisor(supervise: Callable[[], int]) -> int:
    """Returns the process; it ends with its parent, and with what `supervise` returns."""
    pid = os.fork()
    if pid == 0:
        status = _LOST
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            die_with(1)
            status = supervise()
        except BaseException as error:  # noqa: BLE001 - this process must end here
            _say(f"cannot supervise: {error!r}")
        finally:
            os._exit(status)
    return pid


class _Init(msgspec.Struct):
    supervise: Supervise
    stop_seconds: float
    most_starts: int = 0
    pid: int = 0
    starts: int = 0
    asked: bool = False

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        young_until = 0.0
        if self.pid:
            self.starts = 1
        else:
            self._start()
            young_until = time.monotonic() + _YOUNG
        start_at: float | None = None
        patience = 0.0  # one that was started before may have died before
        while True:
            self._heed(signal.sigtimedwait(_SIGNALS, patience))
            code = self._reap()
            if code is not None:
                if code >= 0 and (code != _LOST or self.asked):
                    return code
                if self.asked and code == -signal.SIGTERM:
                    return STOPPED
                if self.asked or (self.starts == 1 and time.monotonic() < young_until):
                    return _LOST
                if self.most_starts and self.starts >= self.most_starts:
                    _say(f"the supervisor died {self.starts} times")
                    return LOST_FOR_GOOD
                pause = min(_LONGEST_PAUSE, 2.0 ** min(self.starts, 5) / 4)
                _say(f"the supervisor died ({code}); it starts again in {pause:.1f} s")
                start_at = time.monotonic() + pause
            if start_at is not None and time.monotonic() >= start_at:
                start_at = None
                self._start()
            patience = 3600.0 if start_at is None else max(0.0, start_at - time.monotonic())

    def _start(self) -> None:
        fresh = self.starts == 0
        self.starts += 1
        self.pid = fork_supervisor(lambda: self.supervise(fresh))

    def _heed(self, told: signal.struct_siginfo | None) -> None:
        if told is not None and told.si_signo != signal.SIGCHLD:
            self.asked = True
            if self.pid:
                os.kill(self.pid, signal.SIGTERM)
            else:
                os._exit(0)

    def _reap(self) -> int | None:
        """The supervisor's exit code (negative: a signal), if it was among the dead."""
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code
            if pid == 0:
                return code
            if pid == self.pid:
                self.pid = 0
                code = os.waitstatus_to_exitcode(status)


def be_init(supervise: Supervise, stop_seconds: float, most_starts: int = 0, first: int = 0) -> int:
    """For process 1 of a PID namespace. Returns the exit code of the node: LOST_FOR_GOOD when the
    supervisor was started `most_starts` times (0: any number) and died each time. `first`: the
    first one, when it was started already.

    Before it returns, apps that hear SIGTERM had `stop_seconds` to end.
    """
    code = _Init(supervise, stop_seconds, most_starts, pid=first).run()
    end_containers(stop_seconds)
    return code


def end_containers(seconds: float) -> None:
    """Asks the first process of every container to end, and waits for those that listen."""
    deadline = time.monotonic() + seconds
    for pid in _first_processes():
        os.kill(pid, signal.SIGTERM)
    while _first_processes() and time.monotonic() < deadline:
        signal.sigtimedwait(_SIGNALS, 0.2)
        _reap_all()


def _reap_all() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _first_processes() -> list[int]:
    """Processes that are number 1 in a PID namespace below ours, and have a handler for SIGTERM.

    Without one the kernel would not even deliver it.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == "1":
            continue
        try:
            lines = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
        except (OSError, ValueError):
            continue
        numbers = lines.get("NSpid", "").split()
        caught = int(lines.get("SigCgt", "0"), 16)
        if len(numbers) > 1 and numbers[-1] == "1" and caught >> (signal.SIGTERM - 1) & 1:
            found.append(int(entry.name))
    return found


def _say(text: str) -> None:
    print(f"edgevirt: {text}", file=sys.stderr, flush=True)
