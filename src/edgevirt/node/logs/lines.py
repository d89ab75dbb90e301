"""Lines of services and of app consoles → log entries."""

from __future__ import annotations

import datetime
import json
from typing import Any

from edgevirt.wire.logs import LogEntry, Moment


def service_entry(line: bytes, source: str, number: int, now: float) -> LogEntry:
    """A service writes one JSON object a line (`level`, `time`, `msg`); else it is plain text.

    The content is the line itself, as EVE's own services have it.
    """
    text = line.decode(errors="replace")
    severity, when, pid = "info", now, ""
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        severity = str(fields.get("level", severity))
        pid = str(fields.get("pid", ""))
        stamp = fields.get("time")
        if isinstance(stamp, int | float) and 0 <= stamp < 2**40:
            when = float(stamp)
    return LogEntry(
        severity=severity,
        source=source,
        iid=pid,
        content=text,
        msgid=number,
        timestamp=moment(when),
    )


def console_entry(line: bytes, source: str, number: int, now: float) -> LogEntry:
    """conmon's k8s-file form: `<RFC 3339 time> stdout|stderr F|P <text>`."""
    stamp, stream, _, text = _console_fields(line.decode(errors="replace"))
    return LogEntry(
        severity="error" if stream == "stderr" else "info",
        source=source,
        content=text,
        msgid=number,
        timestamp=_parsed(stamp, now),
    )


def _console_fields(text: str) -> tuple[str, str, str, str]:
    parts = text.split(" ", 3)
    if len(parts) == 4 and parts[1] in {"stdout", "stderr"} and parts[2] in {"F", "P"}:
        return parts[0], parts[1], parts[2], parts[3]
    return "", "stdout", "F", text


def _parsed(stamp: str, now: float) -> Moment:
    try:
        whole = datetime.datetime.fromisoformat(stamp)
    except ValueError:
        return moment(now)
    return moment(whole.timestamp())


def moment(seconds: float) -> Moment:
    whole = int(max(seconds, 0))
    return Moment(seconds=whole, nanos=int((max(seconds, 0) - whole) * 1e9))


class Dedup:
    """Leaves out an entry that one of the last `window` entries already said (0: none left out)."""

    def __init__(self, window: int) -> None:
        self.window = window
        self._recent: dict[tuple[str, str, str], None] = {}

    def is_new(self, entry: LogEntry) -> bool:
        if self.window <= 0:
            return True
        key = (entry.source, entry.severity, entry.content)
        known = key in self._recent
        self._recent.pop(key, None)
        self._recent[key] = None
        while len(self._recent) > self.window:
            del self._recent[next(iter(self._recent))]
        return not known
