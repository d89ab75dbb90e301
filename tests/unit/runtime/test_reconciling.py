"""Reconcilers in the engine: whom they are called for, when, and what becomes of failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import pytest

from edgevirt.runtime import (
    Inputs,
    Kind,
    Output,
    Refuse,
    Report,
    Retry,
    StoreError,
    Undeclared,
    VirtualClock,
)
from edgevirt.runtime.engine import run
from edgevirt.runtime.memory import MemoryStore
from tests.unit.runtime.engine_parts import (
    FOREIGN,
    OUT,
    SIDE,
    SPEC,
    STATUS,
    Call,
    FunctionPlanner,
    FunctionReconciler,
    Value,
    doubled,
    present,
    running,
)
from tests.unit.runtime.test_planning import LateStore


class Gate:
    """A reconcile function that stays in its call until it is let through."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self.open = asyncio.Event()

    async def __call__(
        self, key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        assert key not in self.inside, "two calls for one key overlap"
        self.inside.append(key)
        self.most = max(self.most, len(self.inside))
        await self.open.wait()
        self.inside.remove(key)
        return spec


def failing(*failures: Exception | None) -> Call:
    """Raises each failure in turn (None: succeeds), then succeeds for ever."""
    rest = list(failures)

    async def call(
        key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        failure = rest.pop(0) if rest else None
        if failure is not None:
            raise failure
        return spec

    return call


# -- one key's life --


async def test_a_status_follows_its_spec_to_the_end() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock)
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        assert await present(store, STATUS) == {"a": 1}
        await store.put(SPEC, "a", Value(2))
        await clock.settle()
        assert await present(store, STATUS) == {"a": 2}
        await store.delete(SPEC, "a")
        await clock.settle()
        assert await present(store, STATUS) == {}
        assert reconciler.of("a") == [1, 2, None]
        await store.put(SPEC, "a", Value(3))
        await clock.settle()
        assert await present(store, STATUS) == {"a": 3}


async def test_without_a_change_it_is_called_once() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock)
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(3600)
        assert reconciler.of("a") == [1]


async def test_leftovers_of_an_earlier_life_are_reconciled_away() -> None:
    store, clock = MemoryStore(), VirtualClock()
    await store.put(STATUS, "status only", Value(1))
    await store.put(STATUS, "wanted", Value(1))
    await store.put(SPEC, "wanted", Value(2))
    reconciler = FunctionReconciler(clock, leftovers=["machine only"])
    async with running(store, clock, reconciler):
        assert reconciler.of("status only") == [None]
        assert reconciler.of("machine only") == [None]
        assert reconciler.of("wanted") == [2]
        assert await present(store, STATUS) == {"wanted": 2}


async def test_nothing_is_reconciled_before_every_input_is_in_step() -> None:
    for late in (SPEC, SIDE):
        store, clock = LateStore(late), VirtualClock()
        await store.put(STATUS, "a", Value(1))
        reconciler = FunctionReconciler(clock, reads=(SIDE,), leftovers=["a"])
        async with running(store, clock, reconciler):
            await clock.advance(3600)
            assert reconciler.calls == [], "a thing that is wanted was to be removed"
            store.late.in_step()
            await clock.settle()
            assert reconciler.of("a") == [None]


async def test_a_thing_that_must_go_but_is_not_gone_keeps_its_status() -> None:
    async def slowly(
        key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        if spec is not None:
            return spec
        return Value(-1, "stopping") if clock.monotonic() < gone_at else None

    store, clock = MemoryStore(), VirtualClock()
    gone_at = clock.monotonic() + 25
    reconciler = FunctionReconciler(clock, slowly, recheck=10)
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        await store.delete(SPEC, "a")
        await clock.settle()
        assert await present(store, STATUS) == {"a": -1}
        await clock.advance(31)
        assert await present(store, STATUS) == {}
        calls = len(reconciler.calls)
        await clock.advance(100)
        assert len(reconciler.calls) == calls


async def test_a_report_is_published_while_the_call_goes_on() -> None:
    gate = Gate()

    async def reporting(
        key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        await report(Value(50, "half way"))
        await gate.open.wait()
        return Value(100)

    store, clock = MemoryStore(), VirtualClock()
    async with running(store, clock, FunctionReconciler(clock, reporting)):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        assert await present(store, STATUS) == {"a": 50}
        gate.open.set()
        await clock.settle()
        assert await present(store, STATUS) == {"a": 100}


async def test_a_long_call_can_see_that_its_spec_is_gone() -> None:
    seen: list[Value | None] = []
    gate = Gate()

    async def looking(
        key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        if spec is not None:
            await gate.open.wait()
            seen.append(inputs.get(SPEC, key))
        return None

    store, clock = MemoryStore(), VirtualClock()
    async with running(store, clock, FunctionReconciler(clock, looking)):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        await store.delete(SPEC, "a")
        await clock.settle()
        gate.open.set()
        await clock.settle()
        assert seen == [None]


# -- many keys --


async def test_calls_for_one_key_never_overlap_and_the_latest_spec_wins() -> None:
    store, clock, gate = MemoryStore(), VirtualClock(), Gate()
    reconciler = FunctionReconciler(clock, gate)
    async with running(store, clock, reconciler):
        for number in range(1, 6):
            await store.put(SPEC, "a", Value(number))
            await clock.settle()
        assert gate.inside == ["a"]
        gate.open.set()
        await clock.settle()
        assert reconciler.of("a") == [1, 5]
        assert await present(store, STATUS) == {"a": 5}


async def test_keys_run_side_by_side_up_to_a_bound() -> None:
    store, clock, gate = MemoryStore(), VirtualClock(), Gate()
    async with running(store, clock, FunctionReconciler(clock, gate), concurrency=4):
        for number in range(10):
            await store.put(SPEC, str(number), Value(number))
        await clock.settle()
        assert len(gate.inside) == 4
        gate.open.set()
        await clock.settle()
        assert gate.most == 4
        assert len(await present(store, STATUS)) == 10


async def test_one_failing_key_does_not_delay_the_others() -> None:
    async def picky(
        key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        if key == "bad":
            raise Retry("not today")
        return spec

    store, clock = MemoryStore(), VirtualClock()
    async with running(store, clock, FunctionReconciler(clock, picky), concurrency=1):
        await store.put(SPEC, "bad", Value(1))
        await clock.settle()
        await store.put(SPEC, "good", Value(2))
        await clock.settle()
        assert await present(store, STATUS) == {"good": 2}


# -- inputs --


async def test_a_change_of_what_it_reads_reconciles_every_key_once() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, reads=(SIDE,))
    async with running(store, clock, reconciler):
        for key in "abc":
            await store.put(SPEC, key, Value(1))
        await clock.settle()
        reconciler.calls.clear()
        for number in range(10):
            await store.put(SIDE, "x", Value(number))
        await clock.settle()
        assert sorted(key for _, key, _ in reconciler.calls) == ["a", "b", "c"]


async def test_a_change_during_the_call_is_not_missed() -> None:
    store, clock, gate = MemoryStore(), VirtualClock(), Gate()
    reconciler = FunctionReconciler(clock, gate, reads=(SIDE,))
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        await store.put(SIDE, "x", Value(1))
        await clock.settle()
        gate.open.set()
        await clock.settle()
        assert reconciler.of("a") == [1, 1]


async def test_undeclared_inputs_are_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    async def stray(
        key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        return inputs.get(FOREIGN, "x")

    store, clock = MemoryStore(), VirtualClock()
    await store.put(FOREIGN, "x", Value(1))
    async with running(store, clock, FunctionReconciler(clock, stray)):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        assert Undeclared.__name__ in caplog.text
        assert await present(store, STATUS) == {}


# -- failures --


async def test_retry_backs_off_from_a_second_doubling_to_the_cap() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, failing(*[Retry("no")] * 9))
    async with running(store, clock, reconciler, cap=20.0):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(200)
        gaps = [b - a for a, b in zip(reconciler.times, reconciler.times[1:], strict=False)]
        assert gaps == [1, 2, 4, 8, 16, 20, 20, 20, 20]
        assert await present(store, STATUS) == {"a": 1}


async def test_retry_after_is_kept_to() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, failing(Retry("no", after=7.5), Retry("no", after=0.5)))
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(60)
        assert reconciler.times == [0, 7.5, 8]


async def test_success_ends_the_backoff() -> None:
    store, clock = MemoryStore(), VirtualClock()
    no = Retry("no")
    reconciler = FunctionReconciler(clock, failing(no, no, None, no, no), recheck=100)
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(107)
        assert reconciler.times == [0, 1, 3, 103, 104, 106]


async def test_a_new_spec_does_not_wait_for_the_backoff() -> None:
    store, clock = MemoryStore(), VirtualClock()
    no = Retry("no", after=1000)
    reconciler = FunctionReconciler(clock, failing(no, no))
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        await store.put(SPEC, "a", Value(2))
        await clock.advance(1)
        assert reconciler.times == [0, 0]
        assert reconciler.of("a") == [1, 2]


async def test_a_new_spec_starts_the_backoff_afresh() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, failing(*[Retry("no")] * 5))
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(3)
        assert reconciler.times == [0, 1, 3]
        await store.put(SPEC, "a", Value(2))
        await clock.advance(2)
        assert reconciler.times == [0, 1, 3, 3, 4]


async def test_a_spec_that_comes_back_while_its_thing_goes_is_made_again() -> None:
    store, clock, gate = MemoryStore(), VirtualClock(), Gate()
    await store.put(STATUS, "a", Value(1))
    reconciler = FunctionReconciler(clock, gate)
    async with running(store, clock, reconciler):
        assert gate.inside == ["a"]
        await store.put(SPEC, "a", Value(2))
        await clock.settle()
        gate.open.set()
        await clock.settle()
        assert reconciler.of("a") == [None, 2]
        assert await present(store, STATUS) == {"a": 2}


async def test_jitter_spreads_retries() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, failing(Retry("no"), Retry("no")))
    engine_jitter = iter([1.0, 0.5])

    task = asyncio.create_task(run(store, clock, [reconciler], jitter=lambda: next(engine_jitter)))
    await store.put(SPEC, "a", Value(1))
    await clock.advance(10)
    task.cancel()
    await asyncio.wait([task])
    assert reconciler.times == [0, 1.25, 1.25 + 2.25]


async def test_refused_means_until_the_spec_changes_and_nothing_else() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(
        clock, failing(Refuse("makes no sense")), reads=(SIDE,), recheck=10
    )
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(1000)
        await store.put(SIDE, "x", Value(1))
        await clock.advance(1000)
        assert reconciler.of("a") == [1]
        await store.put(SPEC, "a", Value(2))
        await clock.settle()
        assert reconciler.of("a") == [1, 2]
        await store.put(SIDE, "x", Value(2))
        await clock.settle()
        assert reconciler.of("a") == [1, 2, 2]


async def test_a_refused_key_can_still_be_removed() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, failing(Refuse("makes no sense")))
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        await store.delete(SPEC, "a")
        await clock.settle()
        assert reconciler.of("a") == [1, None]


async def test_a_bug_is_logged_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, failing(KeyError("oops"), Retry("soon")))
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(10)
        assert reconciler.times == [0, 1, 3]
        assert await present(store, STATUS) == {"a": 1}
        bug, retry = caplog.records
        assert bug.levelno == logging.ERROR
        assert "bug in reconciler: a" in bug.message
        assert bug.exc_info is not None
        assert retry.levelno == logging.INFO
        assert retry.message == "reconciler: a: soon; again in 2.0 s"


async def test_what_waits_is_told_once_however_often_its_inputs_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    store, clock = MemoryStore(), VirtualClock()
    due = clock.monotonic() + 30

    async def wait(
        key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
    ) -> Value | None:
        left = due - clock.monotonic()
        if left > 0:
            raise Retry("it rests", after=left)
        return spec

    reconciler = FunctionReconciler(clock, wait, reads=(SIDE,))
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        for number in range(5):
            await store.put(SIDE, "b", Value(number))
            await clock.advance(1)
        assert len(reconciler.calls) == 5
        assert [record.message for record in caplog.records] == [
            "reconciler: a: it rests; again in 30.0 s"
        ]


async def test_a_status_that_cannot_be_written_is_tried_again() -> None:
    class Full(MemoryStore):
        full = True

        async def put(
            self, kind: Kind[Any], key: str, value: Any, *, expect: int | None = None
        ) -> Any:
            if kind is STATUS and self.full:
                raise StoreError("cannot put: no space")
            return await super().put(kind, key, value, expect=expect)

    store, clock = Full(), VirtualClock()
    async with running(store, clock, FunctionReconciler(clock)):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        store.full = False
        await clock.advance(1.5)
        assert await present(store, STATUS) == {"a": 1}


async def test_recheck_notices_what_changed_by_itself() -> None:
    store, clock = MemoryStore(), VirtualClock()
    reconciler = FunctionReconciler(clock, recheck=30)
    async with running(store, clock, reconciler):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(95)
        assert reconciler.times == [0, 30, 60, 90]


async def test_a_key_that_only_another_kind_names_is_reconciled_with_no_spec() -> None:
    class Wide(FunctionReconciler):
        keys_too = (SIDE,)

    store, clock = MemoryStore(), VirtualClock()
    await store.put(SIDE, "before", Value(1))
    reconciler = Wide(clock, reads=(SIDE,))
    async with running(store, clock, reconciler):
        await clock.advance(1)
        assert reconciler.of("before") == [None]
        await store.put(SIDE, "later", Value(1))
        await store.put(SPEC, "later", Value(2))
        await clock.advance(1)
        assert reconciler.of("later")[-1] == 2


async def test_existing_is_asked_again_until_it_answers() -> None:
    class Shy(FunctionReconciler):
        refusals = 2

        async def existing(self) -> Iterable[str]:
            if self.refusals:
                self.refusals -= 1
                raise Retry("the disk is not there yet")
            return ["left"]

    store, clock = MemoryStore(), VirtualClock()
    await store.put(SPEC, "a", Value(1))
    reconciler = Shy(clock)
    async with running(store, clock, reconciler):
        await clock.advance(2.5)
        assert reconciler.calls == []
        await clock.advance(1)
        assert sorted(reconciler.calls) == [(3, "a", 1), (3, "left", None)]


# -- controllers together --


async def test_a_chain_of_controllers_converges() -> None:
    """Spec -> planner -> Out -> reconciler -> Status -> planner -> Side."""

    def told(inputs: Inputs) -> Iterable[Output]:
        yield Output(SIDE, "sum", Value(sum(v.number for v in inputs.all(STATUS).values())))

    store, clock = MemoryStore(), VirtualClock()
    first = FunctionPlanner(doubled)
    middle = FunctionReconciler(clock, spec=OUT)
    last = FunctionPlanner(told, reads=(STATUS,), owns=(SIDE,), name="last")
    async with running(store, clock, first, middle, last):
        for number in range(5):
            await store.put(SPEC, str(number), Value(number))
        await clock.settle()
        assert await present(store, SIDE) == {"sum": 20}
        await store.delete(SPEC, "4")
        await clock.settle()
        assert await present(store, SIDE) == {"sum": 12}


async def test_ending_the_engine_ends_every_call() -> None:
    store, clock, gate = MemoryStore(), VirtualClock(), Gate()
    before = asyncio.all_tasks()
    async with running(store, clock, FunctionReconciler(clock, gate, recheck=5)):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        assert gate.inside == ["a"]
    assert asyncio.all_tasks() == before
