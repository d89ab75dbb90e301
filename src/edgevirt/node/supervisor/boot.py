"""The node's starts and ends, kept on disk so that the next run can say why the last one ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from edgevirt.model.machine import Boot, BootReason
from edgevirt.node.paths import Paths

S = TypeVar("S", bound=msgspec.Struct)


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run ended. One that left no End was cut off: power, or a kill."""

    at: float
    reason: BootReason
    text: str


def record_end(paths: Paths, end: End) -> None:
    """Durable on return."""
    _write(paths.end_record, msgspec.json.encode(end), 0o600)


def record_start(paths: Paths, now: float) -> Boot:
    """Counts this start, with the reason that the run before left. Durable on return."""
    before = _read(paths.boot_record, Boot)
    end = _read(paths.end_record, End)
    if before is None:
        boot = Boot(at=now)
    elif end is None:
        text = "the run before ended without a word"
        boot = Boot(at=now, count=before.count + 1, reason=BootReason.POWER_FAIL, text=text)
    else:
        boot = Boot(at=now, count=before.count + 1, reason=end.reason, text=end.text, ended=end.at)
    _write(paths.boot_record, msgspec.json.encode(boot), 0o644)
    paths.end_record.unlink(missing_ok=True)
    return boot


def _read(path: Path, kind: type[S]) -> S | None:
    """None when it is not there, or does not hold what was written."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(fresh, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
