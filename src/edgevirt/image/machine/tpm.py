"""A new TPM for a machine that images are tried in: with registers of SHA-256 alone.

swtpm begins with four banks of registers. Firmware and GRUB then hash all that they measure, kernel
and initial file system among it, four times, which takes an emulated processor half a minute.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

_READY: Final = 15.0
"""Seconds."""
_SESSIONS, _NO_SESSIONS = 0x8002, 0x8001
_SHUTDOWN, _PCR_ALLOCATE = 0x145, 0x12B
_PLATFORM, _PASSWORD = 0x4000000C, 0x40000009
_ALL, _NONE = b"\xff\xff\xff", bytes(3)
_BANKS: Final = ((0x0B, _ALL), (0x04, _NONE), (0x0C, _NONE), (0x0D, _NONE))
"""SHA-256; SHA-1, SHA-384, SHA-512: TCG algorithm registry."""


class TpmError(Exception):
    """«cannot make a TPM: why»."""


def make_tpm(state: Path) -> None:
    """`state`: its empty directory. Raises TpmError."""
    with tempfile.TemporaryDirectory(prefix="edgevirt-tpm-") as directory:
        line = Path(directory) / "tpm"
        command = [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state},mode=0600"),
            *("--server", f"type=unixio,path={line}", "--flags", "not-need-init,startup-clear"),
        ]
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
                try:
                    _prepare(line, process)
                finally:
                    process.terminate()
        except OSError as error:
            raise TpmError(f"cannot make a TPM: {error}") from error


def _prepare(line: Path, process: subprocess.Popen[bytes]) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_READY)
        deadline = time.monotonic() + _READY
        while connection.connect_ex(str(line)) != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TpmError("cannot make a TPM: swtpm does not come up")
            time.sleep(0.01)
        for command in (allocation(), _command(_NO_SESSIONS, _SHUTDOWN, struct.pack(">H", 0))):
            connection.sendall(command)
            answer = connection.recv(4096)
            if len(answer) < 10 or answer[6:10] != bytes(4):
                raise TpmError(f"cannot make a TPM: it answers {answer.hex()}")


def allocation() -> bytes:
    """TPM2_PCR_Allocate; it counts from the next start on."""
    authorization = struct.pack(">IHBH", _PASSWORD, 0, 0, 0)
    banks = b"".join(struct.pack(">HB", number, len(bits)) + bits for number, bits in _BANKS)
    body = struct.pack(">II", _PLATFORM, len(authorization)) + authorization
    return _command(_SESSIONS, _PCR_ALLOCATE, body + struct.pack(">I", len(_BANKS)) + banks)


def _command(tag: int, code: int, body: bytes) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), code) + body
