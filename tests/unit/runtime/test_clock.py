"""Virtual time: sleepers wake in order, each at its own moment, and only when time passes."""

from __future__ import annotations

import asyncio

from edgevirt.runtime import VirtualClock
from edgevirt.runtime.backoff import Backoff


async def test_sleepers_wake_in_order_at_their_own_moments() -> None:
    clock = VirtualClock(start=100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now()))

    tasks = [asyncio.create_task(sleeper(n, s)) for n, s in (("c", 3), ("a", 1), ("b", 1))]
    await clock.advance(0.5)
    assert woken == []
    await clock.advance(5)
    assert woken == [("a", 101.0), ("b", 101.0), ("c", 103.0)]
    assert clock.now() == clock.monotonic() == 105.5
    await asyncio.gather(*tasks)


async def test_who_sleeps_again_wakes_again_within_one_advance() -> None:
    clock = VirtualClock(start=0.0)
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await clock.sleep(10)
            ticks.append(clock.now())

    task = asyncio.create_task(tick())
    await clock.advance(35)
    assert ticks == [10.0, 20.0, 30.0]
    task.cancel()
    await asyncio.wait([task])
    await clock.advance(100)
    assert len(ticks) == 3


def test_backoff_doubles_to_its_cap_and_jitter_adds_up_to_a_quarter() -> None:
    plain = Backoff(lambda: 0.0, cap=60)
    assert [plain.delay(n) for n in (1, 2, 3, 4, 5, 6, 7, 8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert plain.delay(10_000) == 60
    assert Backoff(lambda: 1.0).delay(1) == 1.25
