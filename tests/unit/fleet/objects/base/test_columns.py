from __future__ import annotations

import pytest

from edgevirt.fleet.objects.base.columns import human_duration, since


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
