"""Kubernetes' JSONPath templates, as far as scripts use them: `{.status.conditions[0].type}`.

Fields, indexes, `[*]`, `..`-less paths and filters that compare: `[?(@.type=="Ready")]`. A template
may mix text with several paths, and repeat a part by `{range PATH}…{end}`; there are no functions.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from edgevirt.cli.session import fail

_HINT: Final = "such as {.status.state}, or {.items[*].metadata.name}"
_PART: Final = re.compile(
    r"""\.?(?:
        (?P<field>[A-Za-z_$][\w\-]*)
      | \['(?P<quoted>[^']*)'\]
      | \[(?P<index>-?\d+)\]
      | (?P<every>\[\*\]|\*)
      | \[\?\(@(?P<path>[^=!<>]*?)\s*(?P<test>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)]+?)\s*\)\]
    )""",
    re.VERBOSE,
)
_BRACES: Final = re.compile(r"\{([^{}]*)\}")


def render(template: str, body: Any) -> str:
    """Several values of one path are joined by spaces; text outside braces stays."""
    if not {"{", "}"} & set(template):
        template = "{" + template + "}"
    pieces = list(_pieces(template))
    out, at = _render(pieces, 0, body)
    if at < len(pieces):
        fail(f"cannot read the template {template!r}: an {{end}} without a {{range}}", _HINT)
    return out


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """(text, what stands in the braces behind it)."""
    texts, paths = _BRACES.split(template)[::2], _BRACES.findall(template)
    if any(brace in text for text in texts for brace in "{}"):
        fail(f"cannot read the template {template!r}: a brace is not closed", _HINT)
    return itertools.zip_longest(texts, map(str.strip, paths), fillvalue="")


def _render(pieces: list[tuple[str, str]], at: int, body: Any) -> tuple[str, int]:
    """Up to the `{end}` of this range, or the end of all; and which piece that is."""
    out: list[str] = []
    while at < len(pieces):
        literal, path = pieces[at]
        out.append(literal)
        if path == "end":
            return "".join(out), at
        if path.partition(" ")[0] == "range":
            at = _repeat(pieces, at + 1, find(path.partition(" ")[2].strip(), body), out)
        elif path[:1] in {'"', "'"}:
            out.append(_text_literal(path))
        elif path:
            out.append(" ".join(text(value) for value in find(path, body)))
        at += 1
    return "".join(out), at


def _repeat(pieces: list[tuple[str, str]], at: int, values: list[Any], out: list[str]) -> int:
    """Once for each value; returns which piece its `{end}` is."""
    _, end = _render(pieces, at, None)
    if end == len(pieces):
        fail("cannot read the template: a {range} has no {end}", _HINT)
    out += [_render(pieces, at, value)[0] for value in values]
    return end


def find(path: str, body: Any) -> list[Any]:
    """All values at a path such as `.status.state`; none where a field is absent."""
    found = [body]
    for part in _parts(path):
        found = [inner for value in found for inner in _step(part, value)]
    return found


def _parts(path: str) -> Iterator[re.Match[str]]:
    at = 1 if path.startswith("$") else 0
    while at < len(path) and path[at:] != ".":
        part = _PART.match(path, at)
        if part is None:
            fail(f"cannot read the JSON path {path!r}", _HINT)
        yield part
        at = part.end()


def _step(part: re.Match[str], value: Any) -> Iterator[Any]:
    if part["every"]:
        yield from value.values() if isinstance(value, dict) else _list(value)
    elif part["index"] is not None:
        items = _list(value)
        if -len(items) <= int(part["index"]) < len(items):
            yield items[int(part["index"])]
    elif part["test"]:
        wanted = text(_literal(part["value"]))
        for item in _list(value):
            same = wanted in [text(inner) for inner in find(part["path"], item)]
            if same == (part["test"] == "=="):
                yield item
    elif isinstance(value, dict):
        name = part["field"] if part["quoted"] is None else part["quoted"]
        if name in value:
            yield value[name]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _literal(text: str) -> Any:
    if text[:1] in {'"', "'"}:
        return text[1:-1]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text_literal(text: str) -> str:
    """`"\\n"` and such, in double quotes or single ones."""
    try:
        return str(json.loads('"' + text.strip("\"'") + '"'))
    except ValueError:
        fail(f"cannot read the text {text} of the template", _HINT)


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
