"""What a writer is told of a change to an App."""

from __future__ import annotations

import pytest

from edgevirt.fleet.objects.app import App, AppSpec, warn
from edgevirt.fleet.objects.app_device import AppDevice


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


@pytest.mark.parametrize(
    ("type_", "virtualization", "told"),
    [("Container", "", True), ("Container", "None", False), ("VM", "", False)],
)
def test_what_a_container_in_a_machine_does_not_get_is_told(
    type_: str, virtualization: str, told: bool
) -> None:
    port = AppDevice(name="port", type="Serial", adapter="com")
    stick = AppDevice(name="stick", type="USBDevice", adapter="stick")
    new = App(spec=AppSpec(type=type_, virtualization=virtualization, devices=(port, stick)))
    assert ["devices[1]" in text for text in warn(new, None)] == [True] * told


def test_a_tpm_is_advised_where_it_is_to_be_had() -> None:
    new = App(spec=AppSpec(devices=(AppDevice(name="tpm", type="TPM"),)))
    [said] = warn(new, None)
    assert "no TPM" in said
    assert said.endswith("a VM can have it")
