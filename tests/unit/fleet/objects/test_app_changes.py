"""What a writer is told of a change to an App."""

from __future__ import annotations

import pytest

from edgevirt.fleet.objects.app import App, AppSpec, warn


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("PV", "None", True),
        ("", "None", True),
        ("None", "PV", False),
        ("PV", "HVM", False),
        ("None", "None", False),
    ],
)
def test_leaving_a_virtual_machine_is_said_to_cost_the_data(
    before: str, after: str, told: bool
) -> None:
    old, new = (App(spec=AppSpec(virtualization=one)) for one in (before, after))
    assert ["purge" in text for text in warn(new, old)] == [True] * told
