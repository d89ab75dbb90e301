from __future__ import annotations

from edgevirt.fleet.objects import event_view
from edgevirt.fleet.objects.base import Condition, set_condition, timestamp
from edgevirt.fleet.objects.event import ObjectReference, again, make_event

ABOUT = ObjectReference(kind="App", namespace="n", name="a", uid="u")


def test_the_same_event_has_the_same_name_and_is_counted() -> None:
    first = make_event(ABOUT, "Started", "it runs", 1000.0)
    second = make_event(ABOUT, "Started", "it runs", 2000.0)
    assert first.key == second.key
    assert make_event(ABOUT, "Started", "it walks", 1000.0).key != first.key
    counted = again(first, 2000.0)
    assert (counted.count, counted.last_timestamp) == (2, timestamp(2000.0))
    assert counted.first_timestamp == timestamp(1000.0)


def test_an_event_in_its_newer_form_loses_nothing() -> None:
    event = make_event(ABOUT, "Started", "it runs", 1000.0, warning=True, host="n1")
    assert event_view.inward(event_view.outward(event)) == event


def test_a_condition_moves_in_time_only_when_its_status_does() -> None:
    ready = Condition(type="Ready", status="False", reason="Starting")
    conditions = set_condition((), ready, 1000.0)
    conditions = set_condition(conditions, Condition(type="Ready", status="False"), 2000.0)
    assert conditions[0].last_transition_time == timestamp(1000.0)
    conditions = set_condition(conditions, Condition(type="Ready", status="True"), 3000.0)
    assert conditions[0].last_transition_time == timestamp(3000.0)
    assert len(conditions) == 1
