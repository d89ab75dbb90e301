"""A TPM 2.0 of one's own: swtpm on a Unix socket, with its state in a directory."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


class Swtpm:
    """`restart()` is a power cycle: registers are zero again, what is persistent stays."""

    def __init__(self, directory: Path) -> None:
        self._state = directory / "state"
        self._state.mkdir(parents=True)
        self.socket = directory / "tpm.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}"),
                *("--server", f"type=unixio,path={self.socket}"),
                *("--flags", "not-need-init,startup-clear"),
            ]
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("swtpm did not start")
            time.sleep(0.005)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as line:
            return line.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()


@contextlib.contextmanager
def swtpm(directory: Path) -> Iterator[Swtpm]:
    machine = Swtpm(directory)
    machine.start()
    try:
        yield machine
    finally:
        machine.stop()
