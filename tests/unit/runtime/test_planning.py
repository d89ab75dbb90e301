"""Planners in the engine: when they plan, and what is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from edgevirt.runtime import (
    Again,
    Denied,
    Event,
    Inputs,
    Kind,
    Output,
    StoreError,
    Undeclared,
    VirtualClock,
)
from edgevirt.runtime.engine import guard, plan_once, run
from edgevirt.runtime.memory import MemoryStore
from edgevirt.runtime.table import Table
from tests.unit.runtime.engine_parts import (
    FOREIGN,
    OUT,
    SIDE,
    SPEC,
    FunctionPlanner,
    Value,
    doubled,
    present,
    running,
)


class LateStore(MemoryStore):
    """A memory store of which one kind comes in step only when the test says so."""

    def __init__(self, late: Kind[Any]) -> None:
        super().__init__()
        self.late = Table(late, whole=False)

    def watch(self, kind: Kind[Any], *, since: int | None = None) -> AsyncIterator[Event[Any]]:
        if kind.name == self.late.kind.name:
            return self.late.watch()
        return super().watch(kind, since=since)


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.broken = False

    async def put(self, kind: Kind[Any], key: str, value: Any, *, expect: int | None = None) -> Any:
        if self.broken:
            raise StoreError("cannot put: no space")
        self.writes.append(f"put {kind.name} {key}")
        return await super().put(kind, key, value, expect=expect)

    async def delete(self, kind: Kind[Any], key: str, *, expect: int | None = None) -> bool:
        self.writes.append(f"delete {kind.name} {key}")
        return await super().delete(kind, key, expect=expect)


# -- the whole way --


async def test_outputs_follow_inputs() -> None:
    store, clock = MemoryStore(), VirtualClock()
    await store.put(SPEC, "a", Value(1))
    async with running(store, clock, FunctionPlanner(doubled)):
        assert await present(store, OUT) == {"a": 2}
        await store.put(SPEC, "b", Value(5))
        await store.put(SPEC, "a", Value(3))
        await clock.settle()
        assert await present(store, OUT) == {"a": 6, "b": 10}
        await store.delete(SPEC, "a")
        await clock.settle()
        assert await present(store, OUT) == {"b": 10}


async def test_only_differences_are_written() -> None:
    store, clock = CountingStore(), VirtualClock()
    for key in "abc":
        await store.put(SPEC, key, Value(1))
    async with running(store, clock, FunctionPlanner(doubled)):
        store.writes.clear()
        await store.put(SPEC, "b", Value(2))
        await store.put(SPEC, "d", Value(1))
        await store.delete(SPEC, "c")
        store.writes.clear()
        await clock.settle()
        assert sorted(store.writes) == ["delete Out c", "put Out b", "put Out d"]


async def test_a_burst_of_changes_is_one_plan() -> None:
    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(doubled)
    async with running(store, clock, planner):
        before = planner.plans
        for number in range(200):
            await store.put(SPEC, str(number % 20), Value(number))
        await clock.settle()
        assert planner.plans == before + 1
        assert len(await present(store, OUT)) == 20


async def test_nothing_happens_without_a_change() -> None:
    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(doubled)
    async with running(store, clock, planner):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        before = planner.plans
        await clock.advance(3600)
        assert planner.plans == before


# -- inputs that are not loaded yet --


async def test_outputs_of_before_stay_until_every_input_is_in_step() -> None:
    store, clock = LateStore(SIDE), VirtualClock()
    await store.put(OUT, "precious", Value(1))
    planner = FunctionPlanner(doubled, reads=(SPEC, SIDE))
    async with running(store, clock, planner):
        await store.put(SPEC, "a", Value(1))
        await clock.advance(3600)
        assert planner.plans == 0
        assert await present(store, OUT) == {"precious": 1}
        await store.put(SPEC, "precious", Value(2))
        store.late.in_step()
        await clock.settle()
        assert planner.plans == 1
        assert await present(store, OUT) == {"a": 2, "precious": 4}


async def test_waiting_for_inputs_is_said_by_name(caplog: pytest.LogCaptureFixture) -> None:
    store, clock = LateStore(SIDE), VirtualClock()
    async with running(store, clock, FunctionPlanner(doubled, reads=(SPEC, SIDE))):
        await clock.advance(9)
        assert caplog.text == ""
        await clock.advance(2)
        assert "planner waits for its inputs: Side" in caplog.text


async def test_outputs_of_an_earlier_life_that_are_not_wanted_are_deleted() -> None:
    store, clock = CountingStore(), VirtualClock()
    await store.put(OUT, "old", Value(1))
    await store.put(OUT, "a", Value(2))
    await store.put(SPEC, "a", Value(1))
    store.writes.clear()
    async with running(store, clock, FunctionPlanner(doubled)):
        assert store.writes == ["delete Out old"]


async def test_a_planner_without_inputs_plans_once() -> None:
    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(lambda inputs: [Output(OUT, "a", Value(1))], reads=())
    async with running(store, clock, planner):
        await clock.advance(100)
        assert planner.plans == 1
        assert await present(store, OUT) == {"a": 1}


# -- own outputs, and time --


async def test_a_planner_sees_its_outputs_of_before() -> None:
    def count(inputs: Inputs) -> Iterable[Output | Again]:
        before = inputs.get(OUT, "count")
        yield Output(OUT, "count", Value(1 if before is None else before.number + 1))

    store, clock = MemoryStore(), VirtualClock()
    await store.put(OUT, "count", Value(41))
    async with running(store, clock, FunctionPlanner(count)):
        assert await present(store, OUT) == {"count": 42}
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        assert await present(store, OUT) == {"count": 43}


async def test_declaring_an_own_kind_as_read_does_not_plan_on_own_writes() -> None:
    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(doubled, reads=(SPEC, OUT))
    async with running(store, clock, planner):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        assert planner.plans == 2


async def test_again_plans_by_the_clock_at_the_earliest_moment_asked_for() -> None:
    def stamp(inputs: Inputs) -> Iterable[Output | Again]:
        yield Again(30)
        yield Again(10)
        yield Again(20)
        yield Output(OUT, "now", Value(int(inputs.now)))

    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(stamp)
    async with running(store, clock, planner):
        start = (await present(store, OUT))["now"]
        await clock.advance(9.5)
        assert planner.plans == 1
        await clock.advance(1)
        assert (await present(store, OUT))["now"] == start + 10
        await clock.advance(90)
        assert planner.plans == 11


async def test_a_change_replaces_the_timer_of_the_plan_before() -> None:
    def once(inputs: Inputs) -> Iterable[Output | Again]:
        if not inputs.all(SPEC):
            yield Again(10)

    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(once)
    async with running(store, clock, planner):
        await store.put(SPEC, "a", Value(1))
        await clock.settle()
        assert planner.plans == 2
        await clock.advance(60)
        assert planner.plans == 2


# -- bugs and refusals --


async def test_a_bug_is_logged_and_retried_with_backoff_and_outputs_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fragile(inputs: Inputs) -> Iterable[Output | Again]:
        for key, value in inputs.all(SPEC).items():
            yield Output(OUT, key, Value(10 // value.number))

    store, clock = MemoryStore(), VirtualClock()
    await store.put(SPEC, "a", Value(2))
    await store.put(SPEC, "b", Value(5))
    planner = FunctionPlanner(fragile)
    async with running(store, clock, planner):
        assert await present(store, OUT) == {"a": 5, "b": 2}
        await store.put(SPEC, "a", Value(1))
        await store.put(SPEC, "b", Value(0))
        await clock.settle()
        assert await present(store, OUT) == {"a": 5, "b": 2}, "half a plan was written"
        assert "bug in planner planner" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        before = planner.plans
        await clock.advance(1 + 2 + 4 + 8 - 0.5)
        assert planner.plans == before + 3
        await clock.advance(1)
        assert planner.plans == before + 4
        await store.put(SPEC, "b", Value(1))
        await clock.settle()
        assert await present(store, OUT) == {"a": 10, "b": 10}


async def test_the_backoff_has_a_cap(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    def broken(inputs: Inputs) -> Iterable[Output | Again]:
        raise RuntimeError("no")

    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(broken)
    async with running(store, clock, planner, cap=5.0):
        await clock.advance(1 + 2 + 4)
        assert planner.plans == 4
        await clock.advance(5 * 20)
        assert planner.plans == 24


async def test_a_write_that_fails_is_tried_again() -> None:
    store, clock = CountingStore(), VirtualClock()
    async with running(store, clock, FunctionPlanner(doubled)):
        await store.put(SPEC, "a", Value(1))
        store.broken = True
        await clock.settle()
        assert await present(store, OUT) == {}
        store.broken = False
        await clock.advance(1.5)
        assert await present(store, OUT) == {"a": 2}


@pytest.mark.parametrize(
    "function",
    [
        lambda inputs: [Output(FOREIGN, "a", Value(1))],
        lambda inputs: [Output(OUT, "a", inputs.get(FOREIGN, "a"))],
        lambda inputs: [Output(OUT, key, Value(1)) for key in inputs.all(FOREIGN)],
    ],
)
async def test_undeclared_access_is_a_bug_that_writes_nothing(
    function: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store, clock = MemoryStore(), VirtualClock()
    planner = FunctionPlanner(function)
    async with running(store, clock, planner):
        assert "Undeclared" in caplog.text
        assert await present(store, OUT) == {}
        assert await present(store, FOREIGN) == {}
    with pytest.raises(Undeclared):
        plan_once(planner, {})


async def test_an_engine_whose_declaration_the_store_refuses_ends_loudly() -> None:
    store = guard(MemoryStore(), reads=(), owns=(OUT,))
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(60):
            await run(store, VirtualClock(), [FunctionPlanner(doubled)])
    assert caught.group_contains(Undeclared)


async def test_a_kind_with_two_owners_is_refused_at_start() -> None:
    first, second = FunctionPlanner(doubled, name="first"), FunctionPlanner(doubled, name="second")
    with pytest.raises(ValueError, match="Out is owned by first and by second"):
        await run(MemoryStore(), VirtualClock(), [first, second])


async def test_a_denied_watch_ends_the_engine() -> None:
    class Denying(MemoryStore):
        def watch(self, kind: Kind[Any], *, since: int | None = None) -> AsyncIterator[Event[Any]]:
            raise Denied("cannot read Spec: not one of its readers")

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(60):
            await run(Denying(), VirtualClock(), [FunctionPlanner(doubled)])
    assert caught.group_contains(Denied)


# -- plan_once --


def test_plan_once_gives_outputs_by_kind_and_the_next_moment() -> None:
    def plan(inputs: Inputs) -> Iterable[Output | Again]:
        yield from doubled(inputs)
        yield Output(SIDE, "now", Value(int(inputs.now), str(inputs.monotonic)))
        yield Again(7)

    planner = FunctionPlanner(plan, owns=(OUT, SIDE))
    result = plan_once(planner, {SPEC: {"a": Value(2)}}, now=5, monotonic=6)
    assert result.all(OUT) == {"a": Value(4)}
    assert result.get(SIDE, "now") == Value(5, "6")
    assert result.get(OUT, "b") is None
    assert result.again == 7


def test_plan_once_refuses_inputs_that_are_not_declared() -> None:
    with pytest.raises(Undeclared):
        plan_once(FunctionPlanner(doubled), {FOREIGN: {}})


def test_two_values_for_one_key_are_a_bug() -> None:
    twice = [Output(OUT, "a", Value(1)), Output(OUT, "a", Value(2))]
    with pytest.raises(ValueError, match="two values of Out 'a'"):
        plan_once(FunctionPlanner(lambda inputs: twice), {})
    same = [Output(OUT, "a", Value(1)), Output(OUT, "a", Value(1))]
    assert plan_once(FunctionPlanner(lambda inputs: same), {}).all(OUT) == {"a": Value(1)}
