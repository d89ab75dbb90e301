"""Checks a body against a kind's shape: every wrong type and unknown field, with its path."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from edgevirt.fleet.api.shapes.shapes import Shape
from edgevirt.fleet.objects.base.object import seconds_of
from edgevirt.fleet.objects.base.problems import Problem, mistyped, required, unsupported

_INT64 = 2**63
_MAX_PROBLEMS = 50
_LONGEST_NEAR, _MOST_NEAR = 64, 10
"""Comparing names takes the square of their length: a mistyped one is short, and there are few."""


@dataclass
class Checked:
    """`value`: without unknown fields and nulls; fit for the struct when there are no problems."""

    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Paths of fields that the kind does not have."""
    near: dict[str, str] = field(default_factory=dict)
    """By such a path, the field that was perhaps meant."""


def check(value: Any, shape: Shape, path: str = "") -> Checked:
    result = Checked()
    result.value = _check(value, shape, path, result)
    return result


def _check(value: Any, shape: Shape, path: str, out: Checked) -> Any:
    if len(out.problems) >= _MAX_PROBLEMS:
        return value
    match shape.form:
        case "struct":
            return _check_struct(value, shape, path, out)
        case "map":
            return _check_map(value, shape, path, out)
        case "list":
            return _check_list(value, shape, path, out)
        case "scalar":
            _check_scalar(value, shape, path, out)
    return value


def _check_struct(value: Any, shape: Shape, path: str, out: Checked) -> Any:
    if not isinstance(value, dict):
        out.problems.append(_wrong(path, value, "object"))
        return value
    result = {}
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        known = shape.fields.get(name)
        if known is None:
            out.unknown.append(here)
            if len(name) <= _LONGEST_NEAR and len(out.unknown) <= _MOST_NEAR:
                for meant in difflib.get_close_matches(name, shape.fields, 1):
                    out.near[here] = meant
        elif inner is not None:
            result[name] = _check(inner, known.shape, here, out)
    for name, known in shape.fields.items():
        if known.required and name not in result:
            out.problems.append(required(f"{path}.{name}" if path else name))
    return result


def _check_map(value: Any, shape: Shape, path: str, out: Checked) -> Any:
    if not isinstance(value, dict):
        out.problems.append(_wrong(path, value, "object"))
        return value
    return {
        key: _check(inner, shape.element, f"{path}.{key}", out)
        for key, inner in value.items()
        if inner is not None
    }


def _check_list(value: Any, shape: Shape, path: str, out: Checked) -> Any:
    if not isinstance(value, list):
        out.problems.append(_wrong(path, value, "array"))
        return value
    return [_check(v, shape.element, f"{path}[{index}]", out) for index, v in enumerate(value)]


def _check_scalar(value: Any, shape: Shape, path: str, out: Checked) -> None:
    if not any(_is(value, name) for name in shape.types):
        out.problems.append(_wrong(path, value, " or ".join(shape.types)))
    elif shape.enum and value not in shape.enum:
        out.problems.append(unsupported(path, value, shape.enum))
    elif shape.format == "date-time":
        try:
            seconds_of(value)
        except ValueError:
            why = "must be a time such as 2026-01-31T08:00:00Z"
            out.problems.append(mistyped(path, value, why))


def _is(value: Any, name: str) -> bool:
    if name == "string":
        return isinstance(value, str)
    if name == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if name == "integer":
        return isinstance(value, int) and -_INT64 <= value < _INT64
    return isinstance(value, int | float)


_JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}


def _wrong(path: str, value: Any, want: str) -> Problem:
    given = _JSON_NAMES.get(type(value), "null" if value is None else "number")
    shown = value if isinstance(value, str | int | float | bool) else given
    return mistyped(path, shown, f"must be of type {want}, not {given}")
