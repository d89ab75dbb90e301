"""Who may have a console, how many there are at a time, and when each one ends."""

from __future__ import annotations

from typing import Any

import pytest

from edgevirt.fleet.consoles.sessions import (
    DIAL_SECONDS,
    IDLE_SECONDS,
    WAIT_SECONDS,
    WHOLE_SECONDS,
    Busy,
    Session,
    Sessions,
)
from edgevirt.model.access import ConsoleKind
from edgevirt.model.ids import AppId
from edgevirt.wire.access import MAX_SESSIONS, session_token


def session(name: str, app: str = "app", user: str = "ada", **more: Any) -> Session:
    fields: dict[str, Any] = {"kind": ConsoleKind.SERIAL, "node": "shop/till", "began": 100.0}
    return Session(
        id=name, key=bytes(32), app=AppId(app), instance=f"shop/{app}", user=user, **fields | more
    )


def test_one_console_is_one_person_s() -> None:
    table = Sessions()
    table.open(session("1"))
    with pytest.raises(Busy, match="ada has it open"):
        table.open(session("2", user="ben"))
    table.open(session("3", kind=ConsoleKind.VNC))  # its screen is another console
    table.open(session("4", app="other"))


def test_who_takes_over_ends_the_one_before_and_says_so() -> None:
    table = Sessions()
    first = session("1")
    table.open(first)
    assert table.open(session("2", user="ben"), take_over=True) is first
    assert "ben took the console over" in first.ended
    assert [one.id for one in table] == ["2"]
    table.close(first)  # its own end comes later
    assert [one.id for one in table] == ["2"]


def test_a_node_has_only_so_many_at_a_time() -> None:
    table = Sessions()
    for number in range(MAX_SESSIONS):
        table.open(session(str(number), app=str(number)))
    with pytest.raises(Busy, match="5 open already"):
        table.open(session("more", app="more"))
    assert len(table.grants_of("shop/till")) == MAX_SESSIONS
    assert table.grants_of("shop/other") == ()
    table.open(session("there", app="there", node="shop/other"))


def test_a_session_is_found_by_its_token_until_it_is_paired() -> None:
    table = Sessions()
    made = session("1")
    table.open(made)
    assert table.find("guess") is None
    assert table.find(session_token(made.grant)) is made
    made.paired = 101.0
    assert table.find(session_token(made.grant)) is None


def test_each_step_has_its_time() -> None:
    made = session("1")
    assert made.deadline()[0] == 100 + WAIT_SECONDS
    made.asked = 130.0
    assert made.deadline()[0] == 130 + DIAL_SECONDS
    made.paired = 140.0
    assert made.deadline()[0] == 140 + IDLE_SECONDS
    made.touched = 3_600.0
    end, why = made.deadline()
    assert end == 100 + WHOLE_SECONDS
    assert "60 min" in why


def test_a_node_that_asks_seldom_is_waited_for_longer() -> None:
    assert session("1", interval=600.0).deadline()[0] == 100 + 1_200


def test_a_node_s_own_end_is_later_than_ours() -> None:
    made = session("1")
    assert made.grant.end > made.end


def test_a_config_is_news_to_each_session_once() -> None:
    table = Sessions()
    first, second = session("1"), session("2", app="other")
    table.open(first)
    assert table.note_asked("shop/till", 110.0) == [first]
    table.open(second)
    assert table.note_asked("shop/till", 120.0) == [second]
    assert (first.asked, second.asked) == (110.0, 120.0)
    assert table.note_asked("shop/other", 130.0) == []
