from __future__ import annotations

from edgevirt.fleet.objects.base.object import Condition, set_condition, timestamp


def test_a_condition_moves_in_time_only_when_its_status_does() -> None:
    ready = Condition(type="Ready", status="False", reason="Starting")
    conditions = set_condition((), ready, 1000.0)
    conditions = set_condition(conditions, Condition(type="Ready", status="False"), 2000.0)
    assert conditions[0].last_transition_time == timestamp(1000.0)
    conditions = set_condition(conditions, Condition(type="Ready", status="True"), 3000.0)
    assert conditions[0].last_transition_time == timestamp(3000.0)
    assert len(conditions) == 1
