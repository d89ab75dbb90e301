from __future__ import annotations

from typing import Any

import pytest

from edgevirt.fleet.objects.base.names import check_metadata
from edgevirt.fleet.objects.base.object import ObjectMeta


@pytest.mark.parametrize(
    ("meta", "field"),
    [
        ({"name": ""}, "metadata.name"),
        ({"name": "Upper"}, "metadata.name"),
        ({"name": "a/b"}, "metadata.name"),
        ({"name": "a\n"}, "metadata.name"),
        ({"name": "a" * 254}, "metadata.name"),
        ({"name": "a", "labels": {"a b": "c"}}, "metadata.labels"),
        ({"name": "a", "labels": {"a": "b c"}}, "metadata.labels"),
        ({"name": "a", "labels": {"Bad_Prefix/a": "b"}}, "metadata.labels"),
        ({"name": "a", "labels": {"a": "x" * 64}}, "metadata.labels"),
        ({"name": "a", "annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
        ({"name": "a", "annotations": {"a b": "x"}}, "metadata.annotations"),
        ({"name": "a", "finalizers": ("no good",)}, "metadata.finalizers[0]"),
    ],
)
def test_bad_metadata_is_refused(meta: dict[str, Any], field: str) -> None:
    found = check_metadata(ObjectMeta(**meta), namespaced=True)
    assert [problem.field for problem in found] == [field]
