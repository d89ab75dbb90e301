"""Events are counted, not repeated, and do not pile up; writers who race do not lose."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from edgevirt.fleet.amend import amend, insist
from edgevirt.fleet.events import MAX_EVENTS, Recorder
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.event import RETENTION, Event
from edgevirt.runtime import Conflict, Kind, StoreError, VirtualClock
from edgevirt.runtime.memory import MemoryStore
from tests.unit.fleet.objects_world import NODE


class Counter(msgspec.Struct, frozen=True):
    value: int


COUNTER = Kind("Counter", Counter)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def events(store: MemoryStore) -> list[Event]:
    return [resource.value for resource in (await store.list(kinds.EVENT)).values()]


async def test_the_same_event_is_counted(store: MemoryStore, clock: VirtualClock) -> None:
    recorder = Recorder(store, clock)
    for _ in range(3):
        await recorder.tell("EdgeNode", NODE, "Online", "it reports")
    await recorder.tell("EdgeNode", NODE, "Silent", "it does not", warning=True)
    told = {event.reason: event for event in await events(store)}
    assert (told["Online"].count, told["Online"].type) == (3, "Normal")
    assert (told["Silent"].count, told["Silent"].type) == (1, "Warning")
    assert told["Online"].involved_object.uid == NODE.metadata.uid
    assert told["Online"].metadata.namespace == NODE.metadata.namespace


async def test_old_events_are_swept(store: MemoryStore, clock: VirtualClock) -> None:
    recorder = Recorder(store, clock)
    await recorder.tell("EdgeNode", NODE, "Old", "x")
    await clock.advance(RETENTION - 10)
    await recorder.tell("EdgeNode", NODE, "Young", "x")
    await clock.advance(20)
    await recorder.sweep()
    assert [event.reason for event in await events(store)] == ["Young"]


async def test_too_many_events_are_swept_oldest_first(
    store: MemoryStore, clock: VirtualClock
) -> None:
    recorder = Recorder(store, clock)
    for number in range(MAX_EVENTS + 20):
        if number == 20:
            await clock.advance(5)
        await recorder.tell("EdgeNode", NODE, "Noise", f"{number}")
    await recorder.sweep()
    left = {int(event.message) for event in await events(store)}
    assert left == set(range(20, MAX_EVENTS + 20))


async def test_writers_who_race_all_count(store: MemoryStore) -> None:
    async def add() -> None:
        await asyncio.sleep(0)
        await amend(store, COUNTER, "x", lambda old: Counter(old.value + 1 if old else 1))

    await asyncio.gather(*(add() for _ in range(50)))
    found = await store.get(COUNTER, "x")
    assert found is not None
    assert found.value == Counter(50)


async def test_leaving_it_as_it_is_writes_nothing(store: MemoryStore) -> None:
    assert await amend(store, COUNTER, "x", lambda _old: None) is None
    written = await store.put(COUNTER, "x", Counter(1))
    assert await amend(store, COUNTER, "x", lambda _old: None) == written


async def test_who_insists_tries_until_the_store_takes_it(clock: VirtualClock) -> None:
    tries = []

    async def work() -> None:
        tries.append(clock.monotonic())
        if len(tries) < 4:
            raise Conflict("full") if len(tries) % 2 else StoreError("full")

    insisting = asyncio.create_task(insist(clock, "test", work))
    await clock.advance(100)
    await insisting
    pauses = [round(b - a) for a, b in itertools.pairwise(tries)]
    assert pauses == [1, 2, 4]


async def test_a_bug_is_not_tried_again(clock: VirtualClock) -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await insist(clock, "test", work)
