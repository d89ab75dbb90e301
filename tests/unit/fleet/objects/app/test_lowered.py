"""What a writer is told of a change to an App."""

from __future__ import annotations

import pytest

from edgevirt.fleet.objects.app.app import App, AppResources, AppSpec, warn
from edgevirt.fleet.objects.app.volume import AppVolume


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


def app_of(cpu: int, memory: str, disk: str, **sizes: str) -> App:
    resources = AppResources(cpu=cpu, memory=memory, disk=disk)
    volumes = tuple(AppVolume(name=name, size=size) for name, size in sizes.items())
    return App(spec=AppSpec(type="VM", resources=resources, volumes=volumes))


def test_what_becomes_of_a_smaller_size_is_told_when_it_is_applied() -> None:
    before = app_of(4, "1Gi", "10Gi", data="2Gi", logs="1Gi", old="1Gi")
    told = list(warn(app_of(2, "512Mi", "8Gi", logs="1024Mi", data="1Gi", new="1Mi"), before))
    assert [text.partition(":")[0] for text in told] == [
        "spec.resources.cpu",
        "spec.resources.memory",
        "spec.resources.disk",
        "spec.volumes[1].size",
    ]
    assert "512Mi instead of 1Gi: the app's instances restart with it at once" in told[1]
    assert "one that is there keeps its size" in told[2]
    assert "after a purge, which makes its data new" in told[3]


def test_more_the_same_or_no_bound_is_told_nobody() -> None:
    before = app_of(1, "512Mi", "1Gi", data="1Gi")
    for after in (before, app_of(2, "1Gi", "2Gi", data="2Gi"), app_of(1, "0.5Gi", "0", data="1Gi")):
        assert list(warn(after, before)) == []
    assert list(warn(before, None)) == []
