"""How things look: columns that line up and are never cut, ages, sizes."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

GAP: Final = "   "
NOTHING: Final = "<none>"
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_AGES: Final = (
    (120, 1, "s", 0, ""),
    (600, 60, "m", 1, "s"),
    (3 * 3600, 60, "m", 0, ""),
    (8 * 3600, 3600, "h", 60, "m"),
    (48 * 3600, 3600, "h", 0, ""),
    (8 * 86400, 86400, "d", 3600, "h"),
)
"""Below so many seconds: the unit, its letter, and a finer unit where it still tells something."""


class Columns:
    """A table that may go on: later rows keep the widths of the first ones, or make them wider.

    No row is cut to the terminal, so that what is shown can be searched and copied.
    """

    def __init__(self, titles: Sequence[str], *, header: bool = True, indent: str = "") -> None:
        self.titles = [title.upper() for title in titles]
        self._header = header
        self._indent = indent
        self._widths = [len(title) if header else 0 for title in self.titles]

    def lines(self, rows: Iterable[Sequence[object]]) -> Iterable[str]:
        """The header comes once, before the first rows."""
        texts = [[_cell(cell) for cell in row] for row in rows]
        for row in texts:
            for index, cell in enumerate(row):
                self._widths[index] = max(self._widths[index], len(cell))
        if self._header:
            self._header = False
            yield click.style(self._line(self.titles), bold=True)
        for row in texts:
            yield self._line(row)

    def echo(self, rows: Iterable[Sequence[object]]) -> None:
        for line in self.lines(rows):
            click.echo(line)

    def _line(self, cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        return self._indent + GAP.join(padded).rstrip()


def echo_table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, indent: str = ""
) -> None:
    Columns(titles, indent=indent).echo(rows)


def _cell(value: object) -> str:
    """One line, whatever a node reports."""
    text = NOTHING if value is None or value == "" else str(value)
    return " ".join(text.split()) if not text.isprintable() else text


def now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def is_stamp(value: object) -> bool:
    """Whether it is a time as the API writes it: RFC 3339."""
    return isinstance(value, str) and _STAMP.fullmatch(value) is not None


def moment(stamp: str) -> float:
    """Seconds since 1970 of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(stamp).timestamp()


def duration(seconds: float) -> str:
    """As tables of the fleet tell an age: `45s`, `3m20s`, `5h`, `2d3h`, `40d`."""
    left = max(int(seconds), 0)
    for below, unit, letter, finer, its in _AGES:
        if left < below:
            rest = left % unit // finer if finer else 0
            return f"{left // unit}{letter}" + (f"{rest}{its}" if rest else "")
    return f"{left // 86400}d"


def age(stamp: Any) -> str:
    """Time since `stamp`; NOTHING where there is none."""
    return duration(now() - moment(stamp)) if is_stamp(stamp) else NOTHING


def ago(stamp: str) -> str:
    """`3m20s ago (2026-05-01 10:20:30 UTC)`; a time to come is `in 5m (…)`."""
    at = moment(stamp)
    when = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    passed = now() - at
    relative = f"in {duration(-passed)}" if passed < -1 else f"{duration(passed)} ago"
    return f"{relative} ({when})"


def size(count: float | None) -> str:
    """Bytes as Kubernetes writes them: `512Mi`, `1.5Gi`."""
    if count is None:
        return "-"
    for unit in ("", "Ki", "Mi", "Gi"):
        if count < 1024:
            return f"{count:.3g}{unit}" if count < 1000 else f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.3g}Ti"
