from __future__ import annotations

from typing import Any

import pytest

from edgevirt.fleet.objects.kinds import KINDS, SERVED, ApiKind


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
