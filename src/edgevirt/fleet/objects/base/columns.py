"""Columns of `kubectl get`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edgevirt.fleet.objects.base.object import ApiObject, Condition, find_condition, seconds_of


@dataclass(frozen=True)
class Column:
    """`cell` makes the cell from the object and the wall clock. Priority 1: only with `-o wide`."""

    name: str
    cell: Callable[[Any, float], str | int]
    type: Literal["string", "integer"] = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


def human_duration(seconds: float) -> str:
    """As kubectl prints an age: `45s`, `3m20s`, `5h`, `2d3h`, `40d`, `2y10d`."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 120:
        return f"{max(total, 0)}s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if minutes < 10:
        return f"{minutes}m" + (f"{total % 60}s" if total % 60 else "")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h" + (f"{minutes % 60}m" if minutes % 60 else "")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d" + (f"{hours % 24}h" if hours % 24 else "")
    if days < 365 * 2:
        return f"{days}d"
    years, rest = divmod(days, 365)
    return f"{years}y" + (f"{rest}d" if years < 8 and rest else "")


def since(stamp: str | None, now: float) -> str:
    """Time since `stamp`, or `<none>`."""
    if not stamp:
        return "<none>"
    try:
        return human_duration(now - seconds_of(stamp))
    except ValueError:
        return "<invalid>"


def condition_status(conditions: tuple[Condition, ...], type: str) -> str:
    found = find_condition(conditions, type)
    return found.status if found else "Unknown"


def _name(item: ApiObject, _now: float) -> str:
    return item.metadata.name


def _age(item: ApiObject, now: float) -> str:
    return since(item.metadata.creation_timestamp, now)


NAME = Column("Name", _name, format="name", description="Name of the object")
AGE = Column("Age", _age, description="Time since the object was created")
