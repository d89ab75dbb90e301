"""The way to a TPM: the kernel's device, or a socket of swtpm's as the tests use it."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgevirt.host.tpm import commands
from edgevirt.host.tpm.failures import INITIALIZE, RETRIES, TpmError, TpmMissing
from edgevirt.host.tpm.frame import ANSWER_MAX, Answer, Command, response_code

_TRIES: Final = 40
_PAUSE: Final = 0.25
"""A busy TPM is asked for ten seconds."""
_SECONDS: Final = 60.0
"""No command of ours takes longer, slow hardware included."""


class Line:
    """One command at a time, from any thread.

    Through the kernel's resource manager (`/dev/tpmrm0`) what we loaded is ours, and gone with us.
    """

    def __init__(self, path: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._device = -1
        try:
            if stat.S_ISSOCK(path.stat().st_mode):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(_SECONDS)
                self._socket.connect(os.fspath(path))
            else:
                self._device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if self._socket is not None:
                self._socket.close()
            raise TpmMissing(f"cannot use the TPM {path}: {error.strerror}") from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        elif self._device >= 0:
            os.close(self._device)
            self._device = -1

    def run(self, command: Command) -> Answer:
        """Raises TpmError when the TPM refuses, TpmMissing when it does not answer."""
        with self._lock:
            return command.read(self._insist(command))

    def _insist(self, command: Command) -> bytes:
        """A TPM may say «not now»; one that nobody started is started, as firmware would."""
        started = False
        for _ in range(_TRIES):
            answer = self._exchange(command)
            code = response_code(answer)
            if code == INITIALIZE and self._socket is not None and not started:
                started = True
                self._exchange(commands.startup())
            elif code not in RETRIES:
                return answer
            else:
                self._sleep(_PAUSE)
        raise TpmError(f"cannot {command.what} with the TPM: it stays busy")

    def _exchange(self, command: Command) -> bytes:
        try:
            if self._socket is None:
                os.write(self._device, command.data)
                return os.read(self._device, ANSWER_MAX)
            self._socket.sendall(command.data)
            return _receive(self._socket)
        except OSError as error:
            why = error.strerror or "no answer in time"
            raise TpmMissing(f"cannot {command.what} with the TPM: {why}") from error


def _receive(line: socket.socket) -> bytes:
    """A stream: the size stands in the answer's head."""
    answer = b""
    wanted = 10
    while len(answer) < wanted:
        part = line.recv(ANSWER_MAX)
        if not part:
            raise ConnectionResetError(0, "it closed the line")
        answer += part
        if len(answer) >= 10:
            wanted = min(int.from_bytes(answer[2:6], "big"), ANSWER_MAX)
    return answer
