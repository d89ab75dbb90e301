"""What a service logs: one JSON object a line, in the form that log entries have on the wire.

So the logs service has nothing to guess, and a person reads the same fields everywhere.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.wire.logs import LogEntry, Moment

MAX_CONTENT: Final = 24_000
"""Characters of one message, of which each may take several bytes once it is escaped."""

_SEVERITIES: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}


class EntryFormatter(logging.Formatter):
    """`source`: the service's name."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self._encode = msgspec.json.Encoder().encode

    def format(self, record: logging.LogRecord) -> str:
        content = record.getMessage()
        if record.exc_info:
            content += "\n" + self.formatException(record.exc_info)
        if len(content) > MAX_CONTENT:
            content = f"{content[:MAX_CONTENT]} […{len(content) - MAX_CONTENT} characters more]"
        whole = int(record.created)
        entry = LogEntry(
            severity=_SEVERITIES.get(record.levelno, "info"),
            source=self.source,
            iid=str(record.process),
            content=content,
            timestamp=Moment(whole, int((record.created - whole) * 1_000_000_000)),
            filename=f"{record.filename}:{record.lineno}",
            function=record.funcName or "",
        )
        return self._encode(entry).decode()


_STDERR: Final = logging.StreamHandler()
_FORMATTER: Final = EntryFormatter("")
_STDERR.setFormatter(_FORMATTER)


def log_to_stderr(source: str) -> None:
    """All of the process's logging, one entry a line, each in one write.

    Everything is made beforehand, so that a process just forked hardly changes a page.
    """
    _FORMATTER.source = source
    logging.root.handlers = [_STDERR]


def log_to_file(source: str, path: Path, level: int = logging.INFO) -> None:
    """As `log_to_stderr`, into a file; who looks at stderr is told of trouble in plain words."""
    handler = logging.FileHandler(path)
    handler.setFormatter(EntryFormatter(source))
    screen = logging.StreamHandler()
    screen.setFormatter(logging.Formatter("edgevirt: %(message)s"))
    screen.setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [handler, screen]
    root.setLevel(level)
    # a line for every request says nothing that our own records don't
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
