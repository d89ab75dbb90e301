from __future__ import annotations

from edgevirt.fleet.objects.base.object import timestamp
from edgevirt.fleet.objects.core import event_view
from edgevirt.fleet.objects.core.event import ObjectReference, again, make_event

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
