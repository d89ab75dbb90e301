from __future__ import annotations

from typing import Any

import pytest

from edgevirt.fleet.objects.columns import human_duration, since
from edgevirt.fleet.objects.kinds import KINDS, SERVED, ApiKind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (10 * 3600 + 60, "10h"),
        (50 * 3600, "2d2h"),
        (40 * 86400, "40d"),
        (740 * 86400, "2y10d"),
        (3000 * 86400, "8y"),
    ],
)
def test_ages_are_printed_as_kubectl_does(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_a_broken_stamp_does_not_break_the_table() -> None:
    assert since("yesterday", 0) == "<invalid>"
    assert since(None, 0) == "<none>"


@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.api_version + kind.name)
def test_every_column_of_an_empty_object_has_a_cell(kind: ApiKind[Any]) -> None:
    value = kind.type()
    for column in kind.columns:
        cell = column.cell(value, 0.0)
        assert isinstance(cell, int if column.type == "integer" else str), column.name


def test_names_of_kinds_are_unique_and_regular() -> None:
    words = [word for kind in KINDS for word in (kind.plural, kind.singular, *kind.short_names)]
    assert len(words) == len(set(words))
    for kind in KINDS:
        assert kind.singular == kind.name.lower()
        assert kind.plural.startswith(kind.singular.removesuffix("y"))
