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
    stack: str = ""
    slot: str = ""
    """Of the operating system that ended."""


class Traces(msgspec.Struct, frozen=True):
    """What the machine remembers of the run before, whatever that run wrote down.

    `panic`: the kernel's last words. `watchdog`: it was what started the machine anew.
    """

    panic: str = ""
    watchdog: bool = False


def record_end(paths: Paths, end: End) -> None:
    """Durable on return."""
    _write(paths.end_record, msgspec.json.encode(end), 0o600)


def record_start(paths: Paths, now: float, slot: str = "", traces: Traces | None = None) -> Boot:
    """Counts this start, with the reason that the run before left, or that can be told from its
    traces. Durable on return. `slot`: of the operating system that starts.
    """
    before = _read(paths.boot_record, Boot)
    end = _read(paths.end_record, End)
    traces = traces or Traces()
    if before is None:
        boot = Boot(at=now, slot=slot)
    else:
        found = end if end is not None and not _fell_back(end, slot) else None
        told = found or _deduce(traces, fell_back=end is not None and found is None)
        boot = Boot(
            at=now,
            count=before.count + 1,
            reason=told.reason,
            text=told.text,
            stack=told.stack,
            ended=told.at,
            slot=slot,
        )
    _write(paths.boot_record, msgspec.json.encode(boot), 0o644)
    paths.end_record.unlink(missing_ok=True)
    return boot


def _fell_back(end: End, slot: str) -> bool:
    """It restarted into the other slot, and here it is again: that one left no word."""
    return end.reason is BootReason.UPDATE and bool(slot) and end.slot == slot


def _deduce(traces: Traces, *, fell_back: bool) -> End:
    """Of a run that wrote nothing down before it ended."""
    whose = "the new version" if fell_back else "the run before"
    if traces.panic:
        text = f"the kernel of {whose} panicked"
        return End(at=0.0, reason=BootReason.KERNEL, text=text, stack=traces.panic)
    if traces.watchdog:
        text = f"{whose} hung, and the hardware watchdog reset the machine"
        return End(at=0.0, reason=BootReason.HARDWARE_WATCHDOG, text=text)
    if fell_back:
        text = "the new version never came up: it ended before it could say why"
        return End(at=0.0, reason=BootReason.FALLBACK, text=text)
    text = "the run before ended without a word"
    return End(at=0.0, reason=BootReason.POWER_FAIL, text=text)


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
