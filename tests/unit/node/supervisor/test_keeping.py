"""When services are started, killed and started again."""

from __future__ import annotations

from edgevirt.node.supervisor.keeping import Ask, Dump, GiveUp, Keeping, Kill, Limits, Start

LIMITS = Limits(hang=100.0, dump=2.0, grace=5.0, first=1.0, cap=8.0, steady=60.0)


def running(*names: str) -> Keeping:
    keeping = Keeping(LIMITS)
    keeping.keep(names, 0.0)
    for pid, action in enumerate(keeping.actions(0.0), start=10):
        assert isinstance(action, Start)
        keeping.started(action.name, pid, 0.0)
    return keeping


def test_every_service_is_started_at_once() -> None:
    keeping = Keeping(LIMITS)
    keeping.keep(["agent", "trust"], 5.0)
    assert list(keeping.actions(5.0)) == [Start("agent"), Start("trust")]


def test_a_service_that_beats_is_left_alone() -> None:
    keeping = running("agent")
    for second in range(0, 1000, 50):
        keeping.beat("agent", float(second))
        assert list(keeping.actions(second + 49.0)) == []


def test_a_hung_service_is_killed_once_and_its_status_says_why() -> None:
    keeping = running("agent")
    assert list(keeping.actions(99.9)) == []
    assert keeping.next() == 100.0
    assert list(keeping.actions(100.0)) == [Dump("agent", 10)]
    assert keeping.next() == 102.0
    assert list(keeping.actions(101.0)) == []
    (kill,) = keeping.actions(102.0)
    assert kill == Kill("agent", 10, "killed: hung, no heartbeat for 102 s")
    assert list(keeping.actions(200.0)) == []
    keeping.exited("agent", "killed by SIGKILL", 200.0)
    assert keeping.services["agent"].last_exit == "killed: hung, no heartbeat for 102 s"


def test_a_service_that_keeps_failing_is_tried_ever_more_rarely_but_for_ever() -> None:
    keeping = running("agent")
    now, waits = 0.0, []
    for _ in range(6):
        keeping.exited("agent", "exit code 1", now)
        due = keeping.next()
        assert due is not None
        assert list(keeping.actions(due - 0.01)) == []
        assert list(keeping.actions(due)) == [Start("agent")]
        waits.append(due - now)
        now = due
        keeping.started("agent", 99, now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert keeping.services["agent"].starts == 7


def test_a_service_that_beats_again_while_it_writes_down_where_it_is_lives_on() -> None:
    keeping = running("agent")
    assert list(keeping.actions(100.0)) == [Dump("agent", 10)]
    keeping.beat("agent", 101.0)
    assert list(keeping.actions(150.0)) == []
    assert keeping.next() == 201.0


def test_a_service_that_keeps_ending_makes_the_node_restart_once() -> None:
    keeping = running("agent")
    now = 0.0
    for _ in range(LIMITS.deaths - 1):
        keeping.exited("agent", "exit code 1", now)
        now = keeping.next() or now
        assert list(keeping.actions(now)) == [Start("agent")]
        keeping.started("agent", 99, now)
    keeping.exited("agent", "exit code 1", now)
    (given_up,) = keeping.actions(now)
    assert given_up == GiveUp("agent", False, "agent ended 12 times in a row: exit code 1")
    assert not any(isinstance(action, GiveUp) for action in keeping.actions(now + 100.0))


def hang(keeping: Keeping, now: float) -> float:
    """From the last beat, until it is killed for its silence and runs again."""
    now += LIMITS.hang
    list(keeping.actions(now))
    now += LIMITS.dump
    assert any(isinstance(action, Kill) for action in keeping.actions(now))
    keeping.exited("agent", "killed by SIGKILL", now)
    return now


def test_a_service_that_hangs_twice_within_an_hour_makes_the_node_restart() -> None:
    keeping = running("agent")
    now = hang(keeping, 0.0) + 1.0
    assert list(keeping.actions(now)) == [Start("agent")]
    keeping.started("agent", 11, now)
    now = hang(keeping, now)
    (given_up,) = (action for action in keeping.actions(now) if isinstance(action, GiveUp))
    assert given_up == GiveUp("agent", True, "agent hung 2 times within 3600 s")


def test_a_service_that_hangs_once_a_day_does_not() -> None:
    keeping = running("agent")
    now = hang(keeping, 0.0)
    for _ in range(3):
        now += 86_400.0
        assert Start("agent") in list(keeping.actions(now))
        keeping.started("agent", 11, now)
        now = hang(keeping, now)
        assert not any(isinstance(action, GiveUp) for action in keeping.actions(now))


def test_a_service_that_ran_for_long_is_started_again_without_delay_piling_up() -> None:
    keeping = running("agent")
    for end in (1.0, 3.0, 100.0):
        keeping.exited("agent", "exit code 1", end)
        keeping.started("agent", 11, end + 1.0)
    assert keeping.services["agent"].failures == 1


def test_stopping_asks_every_service_then_kills_those_that_stay() -> None:
    keeping = running("agent", "trust")
    keeping.stop()
    assert list(keeping.actions(10.0)) == [Ask("agent", 10), Ask("trust", 11)]
    keeping.exited("agent", "exit code 0", 11.0)
    assert list(keeping.actions(14.9)) == []
    assert keeping.next() == 15.0
    (kill,) = keeping.actions(15.0)
    assert isinstance(kill, Kill)
    assert (kill.name, kill.pid) == ("trust", 11)
    assert not keeping.ended
    keeping.exited("trust", "killed by SIGKILL", 15.1)
    assert keeping.ended
    assert keeping.next() is None


def test_what_ends_while_stopping_is_not_started_again() -> None:
    keeping = running("agent")
    keeping.stop()
    keeping.exited("agent", "exit code 0", 1.0)
    assert list(keeping.actions(1000.0)) == []


def test_a_service_that_is_held_starts_when_it_is_released_and_not_before() -> None:
    keeping = Keeping(LIMITS)
    keeping.keep(["agent", "volumes"], 0.0, held=["volumes"])
    assert list(keeping.actions(0.0)) == [Start("agent")]
    keeping.started("agent", 10, 0.0)
    assert list(keeping.actions(99.0)) == []
    assert keeping.next() == 100.0  # the agent's heartbeat
    keeping.release("volumes", 50.0)
    assert keeping.next() == 50.0
    assert list(keeping.actions(50.0)) == [Start("volumes")]
    keeping.started("volumes", 11, 50.0)
    keeping.release("volumes", 51.0)
    assert list(keeping.actions(51.0)) == []


def test_stopping_does_not_wait_for_a_service_that_is_held() -> None:
    keeping = Keeping(LIMITS)
    keeping.keep(["volumes"], 0.0, held=["volumes"])
    keeping.stop()
    assert keeping.ended
    assert keeping.next() is None


def test_a_service_that_is_renewed_ends_and_starts_and_has_not_failed() -> None:
    keeping = running("logs")
    keeping.renew("logs")
    assert keeping.next() == 0.0
    assert list(keeping.actions(7.0)) == [Ask("logs", 10)]
    assert list(keeping.actions(8.0)) == []
    keeping.exited("logs", "exit code 0", 8.5)
    assert list(keeping.actions(8.5)) == [Start("logs")]
    keeping.started("logs", 11, 8.5)
    kept = keeping.services["logs"]
    assert (kept.starts, kept.failures, kept.last_exit) == (2, 0, "")
    assert list(keeping.actions(9.0)) == []


def test_a_service_that_will_not_be_renewed_is_killed_and_starts_all_the_same() -> None:
    keeping = running("logs")
    keeping.renew("logs")
    list(keeping.actions(7.0))
    (kill,) = keeping.actions(12.0)
    assert isinstance(kill, Kill)
    keeping.exited("logs", "killed by SIGKILL", 12.1)
    assert list(keeping.actions(12.1)) == [Start("logs")]


def test_what_does_not_run_is_not_renewed() -> None:
    keeping = running("logs")
    keeping.exited("logs", "exit code 1", 5.0)
    keeping.renew("logs")
    assert list(keeping.actions(6.0)) == [Start("logs")]
    keeping.started("logs", 12, 6.0)
    assert list(keeping.actions(7.0)) == []
