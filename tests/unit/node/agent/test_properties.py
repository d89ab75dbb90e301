"""Config properties: what applies, whatever a controller sends."""

from __future__ import annotations

import pytest

from edgevirt.model.node import Property
from edgevirt.node.agent.properties import RULES, number, resolve


def test_without_a_config_every_property_has_its_default() -> None:
    assert {name: p.value for name, p in resolve((), {}).items()} == {
        name: rule.default for name, rule in RULES.items()
    }


def test_every_default_is_within_its_own_bounds() -> None:
    wanted = tuple((name, rule.default) for name, rule in RULES.items())
    assert [name for name, p in resolve(wanted, {}).items() if p.error] == []


@pytest.mark.parametrize("value", ["4", "86401", "-1", "1.5", "", "soon", "0x10"])
def test_an_impossible_value_leaves_the_one_before_in_force_and_says_so(value: str) -> None:
    before = resolve((("timer.config.interval", "30"),), {})
    found = resolve((("timer.config.interval", value),), before)["timer.config.interval"]
    assert found.value == "30"
    assert "timer.config.interval" in found.error


def test_bounds_belong_to_the_range() -> None:
    for value in ("5", "86400"):
        found = resolve((("timer.config.interval", value),), {})["timer.config.interval"]
        assert found == Property(value=value)


def test_a_property_that_is_omitted_falls_back_to_its_default() -> None:
    before = resolve((("timer.config.interval", "30"),), {})
    assert resolve((), before)["timer.config.interval"] == Property(value="60")


def test_an_unknown_property_is_reported_and_harms_no_other() -> None:
    found = resolve((("no.such.thing", "1"), ("timer.metric.interval", "10")), {})
    assert found["no.such.thing"].error
    assert found["timer.metric.interval"] == Property(value="10")


@pytest.mark.parametrize("value", ["TRUE", "true", "True"])
def test_truth_has_one_spelling_inside(value: str) -> None:
    found = resolve((("app.allow.vnc", value),), {})["app.allow.vnc"]
    assert found == Property(value="true")


def test_a_number_is_there_before_any_config() -> None:
    assert number({}, "timer.config.interval") == 60
