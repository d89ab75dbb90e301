"""What a service logs can be shipped as it is."""

from __future__ import annotations

import logging
import sys

import msgspec

from edgevirt.node.supervisor.records import MAX_CONTENT, EntryFormatter
from edgevirt.wire.logs import MAX_LINE, LogEntry


def entry_of(record: logging.LogRecord) -> LogEntry:
    line = EntryFormatter("agent").format(record)
    assert "\n" not in line
    assert len(line.encode()) < MAX_LINE
    return msgspec.json.decode(line, type=LogEntry)


def a_record(text: str, *arguments: object, level: int = logging.WARNING) -> logging.LogRecord:
    record = logging.LogRecord("x", level, "/a/poll.py", 7, text, arguments, None, "poll")
    record.created = 12.5
    return record


def test_a_line_says_who_when_where_and_what() -> None:
    entry = entry_of(a_record("cannot poll: %s", "refused"))
    assert (entry.source, entry.severity) == ("agent", "warning")
    assert entry.content == "cannot poll: refused"
    assert (entry.timestamp.seconds, entry.timestamp.nanos) == (12, 500_000_000)
    assert (entry.filename, entry.function) == ("poll.py:7", "poll")


def test_an_exception_is_told_in_one_line() -> None:
    record = a_record("bug", level=logging.ERROR)
    try:
        raise ValueError("no\nway")
    except ValueError:
        record.exc_info = sys.exc_info()
    entry = entry_of(record)
    assert entry.severity == "error"
    assert "ValueError: no\nway" in entry.content


def test_an_endless_message_is_cut_so_that_a_bundle_takes_it() -> None:
    entry = entry_of(a_record("x" * (MAX_CONTENT + 9)))
    assert entry.content.endswith("[…9 characters more]")
