"""Messages that must arrive, arrive: the newest state of each object, however long it takes."""

from __future__ import annotations

import pytest

from edgevirt.node.agent.outbox import Outbox
from edgevirt.node.agent.outcome import Delivery, onboarding_delay, retry_delay


def sent(outbox: Outbox, now: float) -> tuple[str, int, bytes]:
    found = outbox.next(now)
    assert found is not None
    return found


def test_one_message_waits_for_an_object_and_it_tells_the_state_when_it_is_sent() -> None:
    outbox = Outbox()
    state = ["old"]
    outbox.put("app/1", lambda: state[0].encode())
    outbox.put("app/1", lambda: state[0].encode())
    state[0] = "new"
    assert len(outbox) == 1
    assert sent(outbox, 0.0)[2] == b"new"


def test_an_accepted_message_is_gone() -> None:
    outbox = Outbox()
    outbox.put("app/1", lambda: b"a")
    key, turn, _ = sent(outbox, 0.0)
    assert outbox.answered(key, turn, 201, 0.0) is Delivery.DONE
    assert outbox.wait(0.0) is None


def test_a_state_that_came_while_the_one_before_was_sent_is_not_taken_for_delivered() -> None:
    outbox = Outbox()
    outbox.put("app/1", lambda: b"first")
    key, turn, _ = sent(outbox, 0.0)
    outbox.put("app/1", lambda: b"second")
    outbox.answered(key, turn, 201, 0.0)
    assert sent(outbox, 0.0)[2] == b"second"


@pytest.mark.parametrize("status", [401, 403, 407, 408, 429, 500, 502, 503])
def test_what_may_pass_later_is_tried_for_ever_ever_more_rarely(status: int) -> None:
    outbox = Outbox()
    outbox.put("device", lambda: b"d")
    now, waits = 0.0, []
    for _ in range(7):
        key, turn, _ = sent(outbox, now)
        assert outbox.answered(key, turn, status, now) is Delivery.LATER
        wait = outbox.wait(now)
        assert wait is not None
        waits.append(wait / 60)
        now += wait
    assert waits == [1, 2, 4, 8, 15, 15, 15]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_can_never_pass_is_dropped_so_that_it_blocks_nothing(status: int) -> None:
    outbox = Outbox()
    outbox.put("app/1", lambda: b"bad")
    outbox.put("app/2", lambda: b"good")
    key, turn, _ = sent(outbox, 0.0)
    assert outbox.answered(key, turn, status, 0.0) is Delivery.DROP
    assert sent(outbox, 0.0)[0] == "app/2"


def test_a_refused_object_lets_the_others_pass() -> None:
    outbox = Outbox()
    outbox.put("app/1", lambda: b"1")
    outbox.put("app/2", lambda: b"2")
    key, turn, _ = sent(outbox, 0.0)
    outbox.answered(key, turn, 503, 0.0)
    assert sent(outbox, 0.0)[0] == "app/2"


def test_an_unreachable_controller_is_left_alone_and_answered_at_once_when_it_is_back() -> None:
    outbox = Outbox()
    outbox.put("app/1", lambda: b"1")
    outbox.unreachable(0.0, 60.0)
    assert outbox.next(59.0) is None
    assert outbox.wait(59.0) == 1.0
    outbox.reachable()
    assert sent(outbox, 59.0)[0] == "app/1"


def test_delays_grow_as_the_protocol_says() -> None:
    assert [onboarding_delay(n) for n in (1, 2, 3, 10, 11, 99)] == [1, 2, 4, 512, 600, 600]
    assert [retry_delay(n) / 60 for n in (1, 2, 3, 4, 5, 9)] == [1, 2, 4, 8, 15, 15]
