"""What the node was given, measured before anything reads it; and what was measured before.

Each measurement is a line in one file, `register sha256 text`, and an extension of that register:
the initrd began the file with the root image. Process 1 goes on with CONFIG (register 14) and with
what the kernel's own measuring said (register 10), so that the lines and the firmware's log
together explain every register.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.tpm import commands
from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.line import Line
from edgevirt.host.tpm.structures import DIGEST_SIZE, SHA256

DEVICE: Final = Path("/dev/tpmrm0")
CONFIG_REGISTER: Final = 14
KERNEL: Final = Path("/sys/kernel/security")
"""Where securityfs is mounted."""
_FIRMWARE_LOG: Final = "tpm0/binary_bios_measurements"
_KERNEL_LOG: Final = "ima/binary_runtime_measurements"
_LOG_MAX: Final = 4 << 20

_UNMEASURED: Final = frozenset(
    {"device.cert.pem", "device.key.pem", "onboard.cert.pem", "onboard.key.pem"}
    | {"soft_serial", "tpm_credential"}
)
"""Each node has its own: only whether they are there is measured."""
_TELLING: Final = frozenset(
    {"bootstrap-config.pb", "DevicePortConfig/override.json", "GlobalConfig/global.json"}
)
"""Their absence is measured too."""


class Measured(msgspec.Struct, frozen=True):
    """One line. `digest`: SHA-256, what the register was extended with."""

    register: int
    digest: bytes
    text: str

    def to_line(self) -> str:
        return f"{self.register} {self.digest.hex()} {self.text}\n"


def read_measured(text: str) -> list[Measured]:
    """What is no such line is left out: the registers will tell that something is missing."""
    found = []
    for line in text.splitlines():
        register, _, rest = line.partition(" ")
        digest, _, what = rest.partition(" ")
        try:
            measured = Measured(int(register), bytes.fromhex(digest), what)
        except ValueError:
            continue
        if len(measured.digest) == DIGEST_SIZE:
            found.append(measured)
    return found


def config_measurements(files: Mapping[str, bytes]) -> list[Measured]:
    """`files`: all that CONFIG holds, by name. In one order; a digest is that of its own text."""
    lines = []
    for name in sorted({*files, *_UNMEASURED, *_TELLING}):
        content = files.get(name)
        if content is None:
            text = f"CONFIG/{name} is absent"
        elif name in _UNMEASURED:
            text = f"CONFIG/{name} is present"
        else:
            text = f"CONFIG/{name} sha256:{hashlib.sha256(content).hexdigest()}"
        lines.append(Measured(CONFIG_REGISTER, hashlib.sha256(text.encode()).digest(), text))
    return lines


def measure_config(
    files: Mapping[str, bytes],
    log: Path,
    firmware_log: Path,
    device: Path = DEVICE,
    kernel: Path = KERNEL,
) -> str:
    """For process 1, once, before any service runs. Returns what it did, in words.

    `files`: what CONFIG holds, as the services will get it. Appends to `log`, and copies to
    `firmware_log` what only root can read. Without a TPM it does nothing. Raises TpmError or
    OSError: the node goes on, and its quotes will not be believed.
    """
    if not device.exists():
        return "no TPM 2.0: nothing is measured"
    measured = config_measurements(files)
    line = Line(device)
    try:
        if not commands.read_banks_answer(line.run(commands.get_banks())).get(SHA256):
            return "the TPM has no registers of SHA-256: nothing is measured"
        with log.open("a") as lines:
            os.fchmod(lines.fileno(), 0o444)
            for entry in kernel_measurements(_read(kernel / _KERNEL_LOG)):
                lines.write(entry.to_line())
            for entry in measured:
                line.run(commands.extend(entry.register, entry.digest))
                lines.write(entry.to_line())
    finally:
        line.close()
    firmware_log.write_bytes(_read(kernel / _FIRMWARE_LOG))
    firmware_log.chmod(0o444)
    return f"measured CONFIG into register {CONFIG_REGISTER}: {len(measured)} entries"


def _read(path: Path) -> bytes:
    """Empty when the kernel has none."""
    try:
        with path.open("rb") as file:
            return file.read(_LOG_MAX)
    except FileNotFoundError:
        return b""


def kernel_measurements(log: bytes) -> Iterator[Measured]:
    """IMA's list in its binary form: register, SHA-1, name of the template, data; little-endian.

    The kernel extends the SHA-256 bank with the SHA-256 of the data.
    """
    position = 0

    def take(size: int) -> bytes:
        nonlocal position
        part = log[position : position + size]
        if len(part) < size:
            raise TpmError("cannot read the kernel's measurements: they are cut short")
        position += size
        return part

    while position < len(log):
        register = int.from_bytes(take(4), "little")
        take(20)
        template = take(int.from_bytes(take(4), "little"))
        data = take(int.from_bytes(take(4), "little"))
        name = data.split(b"\0")[-2] if data.count(b"\0") > 1 else template
        text = f"kernel {name.decode(errors='replace')[-80:]}"
        yield Measured(register, hashlib.sha256(data).digest(), text)
