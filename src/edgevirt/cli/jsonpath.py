"""Kubernetes' JSONPath templates, as far as scripts use them: `{.status.conditions[0].type}`.

Fields, indexes, `[*]`, `..`-less paths and filters that compare: `[?(@.type=="Ready")]`. A template
may mix text with several paths; `range` and functions are not served.
"""

from __future__ import annotations

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


def render(template: str, body: Any) -> str:
    """Several values of one path are joined by spaces; text outside braces stays."""
    if "{" not in template:
        template = "{" + template + "}"
    out = []
    for literal, path in re.findall(r"([^{]*)(?:\{([^}]*)\})?", template):
        out.append(literal)
        if path[:1] in {'"', "'"}:
            out.append(_text_literal(path))
        elif path:
            out.append(" ".join(text(value) for value in find(path, body)))
    return "".join(out)


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
