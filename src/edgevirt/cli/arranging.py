"""get's columns and order by JSON paths, as kubectl has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from edgevirt.cli import jsonpath
from edgevirt.cli.session import fail
from edgevirt.cli.tables import NOTHING, Columns

if TYPE_CHECKING:
    from edgevirt.client.resources import Object

_BETWEEN: Final = re.compile(r",(?=[^,:\[\]]+:)")
"""A comma of a path's filter or index has no heading behind it."""
_HINT: Final = "such as -o custom-columns=NAME:.metadata.name,STATE:.status.state"


class CustomColumns:
    """`HEADING:PATH,…`. Several values of a path are joined by commas."""

    def __init__(self, template: str, *, header: bool) -> None:
        titles, self._paths = [], []
        for part in _BETWEEN.split(template):
            title, colon, path = part.partition(":")
            if not (title and colon and path):
                fail(f"cannot read the column {part!r}", _HINT)
            titles.append(title)
            self._paths.append(plain(path))
        self._columns = Columns(titles, header=header)

    def echo(self, bodies: Iterable[Object]) -> None:
        self._columns.echo([self._row(body) for body in bodies])

    def _row(self, body: Object) -> list[str]:
        cells = (jsonpath.find(path, body) for path in self._paths)
        return [",".join(map(jsonpath.text, values)) or NOTHING for values in cells]


def plain(path: str) -> str:
    """`.a.b`, whether written so, in braces, or without the point."""
    path = path.strip().removeprefix("{").removesuffix("}")
    return path if path.startswith((".", "$", "[")) else f".{path}"


def ordered(bodies: Sequence[Object], path: str) -> list[Object]:
    """By what is at `path`: numbers, then words; what has nothing there goes last."""
    return sorted(bodies, key=lambda body: _rank(jsonpath.find(plain(path), body)))


def _rank(values: list[Any]) -> tuple[int, float, str]:
    if not values:
        return 2, 0.0, ""
    first = values[0]
    if isinstance(first, int | float):
        return 0, float(first), ""
    return 1, 0.0, jsonpath.text(first)
