"""Writers who race do not lose, and who insists gets through."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from edgevirt.runtime import Conflict, Kind, StoreError, VirtualClock
from edgevirt.runtime.amend import amend, insist
from edgevirt.runtime.memory import MemoryStore


class Counter(msgspec.Struct, frozen=True):
    value: int


COUNTER = Kind("Counter", Counter)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


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
