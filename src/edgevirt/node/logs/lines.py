"""Lines of services and of app consoles → log entries."""

from __future__ import annotations

import datetime

import msgspec

from edgevirt.wire.logs import LogEntry, Moment

_decode = msgspec.json.Decoder(LogEntry).decode


def service_entry(line: bytes, source: str, number: int, now: float) -> LogEntry:
    """A service writes one entry a line, as bundles hold them; anything else is plain text."""
    try:
        entry = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        entry = LogEntry(content=line.decode(errors="replace"), severity="info")
    if entry.timestamp == Moment():
        entry = msgspec.structs.replace(entry, timestamp=moment(now))
    return msgspec.structs.replace(entry, source=source, msgid=number)


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
