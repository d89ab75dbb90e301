"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgevirt.fleet.api.errors import bad_request
from edgevirt.fleet.api.shapes.shapes import shape_of
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct
from edgevirt.fleet.objects.core.event import EventSource
from edgevirt.fleet.objects.kinds import ApiKind

_SET = re.compile(r"\s*([^\s,()!=]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
_EQUAL = re.compile(r"\s*([^\s,()!=]+)\s*(==|=|!=)\s*([^\s,()!=]*)\s*")
_EXISTS = re.compile(r"\s*(?:(!)\s*)?([^\s,()!=]+)\s*")
MAX_LENGTH = 8192
"""Characters of a selector."""


@dataclass(frozen=True)
class Requirement:
    """`operator`: `in`, `notin`, `exists` or `absent`."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
        return value is None


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k`. Raises ApiError."""
    _bound(text)
    return tuple(_requirements(text)) if text.strip() else ()


def _bound(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise bad_request(f"cannot read selector: it is longer than {MAX_LENGTH} characters")


def _requirements(text: str) -> Iterator[Requirement]:
    at = 0
    while True:
        if match := _SET.match(text, at):
            values = frozenset(value.strip() for value in match[3].split(","))
            yield Requirement(match[1], match[2], values)
        elif match := _EQUAL.match(text, at):
            yield Requirement(
                match[1], "notin" if match[2] == "!=" else "in", frozenset({match[3]})
            )
        elif match := _EXISTS.match(text, at):
            yield Requirement(match[2], "absent" if match[1] else "exists")
        else:
            raise _unreadable(text, at)
        at = match.end()
        if at == len(text):
            return
        if text[at] != ",":
            raise _unreadable(text, at)
        at += 1


def _unreadable(text: str, at: int) -> Exception:
    return bad_request(f"cannot read label selector {text!r}: unexpected {text[at:]!r}")


@dataclass(frozen=True)
class FieldTerm:
    path: str
    equal: bool
    value: str


def parse_fields(text: str, kind: ApiKind[Any]) -> tuple[FieldTerm, ...]:
    """`metadata.name=x,spec.edgeNode!=y`. A field that cannot be selected is refused with the list
    of those that can."""
    _bound(text)
    supported = ("metadata.name", "metadata.namespace", *kind.selectable)
    terms = []
    for part in text.split(",") if text.strip() else ():
        match = _EQUAL.fullmatch(part)
        if match is None:
            raise bad_request(f"cannot read field selector {part!r}: must be like field=value")
        if match[1] not in supported:
            listed = ", ".join(supported)
            raise bad_request(
                f"field label not supported: {match[1]}; supported for {kind.plural}: {listed}"
            )
        terms.append(FieldTerm(match[1], match[2] != "!=", match[3]))
    return tuple(terms)


@dataclass(frozen=True)
class Selector:
    """What a list or a watch is narrowed to."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    def matches(self, value: ApiObject) -> bool:
        labels = value.metadata.labels
        return all(r.matches(labels) for r in self.labels) and all(
            (_field(value, term.path) == term.value) is term.equal for term in self.fields
        )

    @property
    def name(self) -> str:
        """The one name that can match; empty: any can."""
        names = (t.value for t in self.fields if t.path == "metadata.name" and t.equal)
        return next(names, "")

    @property
    def all(self) -> bool:
        """Nothing is left out."""
        return not self.labels and not self.fields


def _field(value: Any, path: str) -> str:
    for part in path.split("."):
        if not isinstance(value, ApiStruct):
            return ""
        value = getattr(value, shape_of(type(value)).fields[part].attribute)
    if isinstance(value, EventSource):
        return value.component
    return str(value).lower() if isinstance(value, bool) else str(value or "")
