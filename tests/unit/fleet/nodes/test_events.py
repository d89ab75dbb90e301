"""Events are counted, not repeated, and do not pile up."""

from __future__ import annotations

import pytest

from edgevirt.fleet.nodes.events import MAX_EVENTS, Recorder
from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.core.event import RETENTION, Event
from edgevirt.runtime import VirtualClock
from edgevirt.runtime.memory import MemoryStore
from tests.unit.fleet.objects_world import NODE


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
