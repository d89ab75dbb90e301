"""When a failed domain may start again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgevirt.model.base import Severity
from edgevirt.node.domains.restarts import Restarts

CAP = 600.0


def crash(history: Restarts, *, at: float, ran: float = 0.1) -> Restarts:
    return history.crashed("cannot keep running", ran=ran, cap=CAP, now=at, monotonic=at)


def test_first_crash_restarts_at_once_then_the_delay_doubles_to_the_cap() -> None:
    history, delays = Restarts(1), []
    for _ in range(13):
        history = crash(history, at=1000.0)
        delays.append(history.not_before - 1000.0)
    assert delays == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    assert history.crashes == 13


def test_domain_that_could_not_start_is_not_tried_again_at_once() -> None:
    history = Restarts(1).not_started("cannot create", cap=CAP, now=50.0, monotonic=50.0)
    assert history.not_before == 51.0
    assert history.crashes == 0


def test_long_run_makes_up_for_the_failures_before_it() -> None:
    history = crash(crash(Restarts(1), at=0.0), at=0.0)
    assert history.in_a_row == 2
    after = crash(history, at=5000.0, ran=CAP)
    assert (after.in_a_row, after.crashes, after.not_before) == (1, 3, 5000.0)
    assert after.since == 5000.0


def test_trouble_tells_since_when_how_often_and_when_next() -> None:
    history = crash(crash(crash(Restarts(1), at=100.0), at=110.0), at=120.0)
    trouble = history.trouble(now=120.0)
    assert trouble is not None
    assert (trouble.since, trouble.attempts, trouble.retry_at) == (100.0, 3, 122.0)
    assert trouble.severity == Severity.NOTICE
    for _ in range(17):
        history = crash(history, at=120.0)
    late = history.trouble(now=120.0)
    assert late is not None
    assert late.severity == Severity.ERROR


def test_no_failure_is_no_trouble() -> None:
    assert Restarts(1).trouble(now=0.0) is None


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.integers(1, 3600))
def test_delay_never_exceeds_the_cap(runs: list[int], cap: int) -> None:
    history, now = Restarts(1), 0.0
    for ran in runs:
        now = max(now, history.not_before) + ran
        history = history.crashed("why", ran=ran, cap=cap, now=now, monotonic=now)
        assert 0.0 <= history.not_before - now <= cap
