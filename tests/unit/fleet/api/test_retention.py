from __future__ import annotations

import asyncio

from edgevirt.fleet.api import forget_events
from edgevirt.fleet.objects.event import RETENTION, ObjectReference, again, make_event
from edgevirt.fleet.objects.kinds import EVENT
from edgevirt.runtime import VirtualClock
from edgevirt.runtime.memory import MemoryStore


async def test_events_are_forgotten_when_they_no_longer_happen() -> None:
    clock, store = VirtualClock(), MemoryStore()
    about = ObjectReference(kind="App", namespace="n", name="a", uid="u")
    once = make_event(about, "Once", "it happened", clock.now())
    often = make_event(about, "Often", "it happens", clock.now())
    await store.put(EVENT, once.key, once)
    await store.put(EVENT, often.key, often)
    sweeping = asyncio.create_task(forget_events(store, clock))
    await clock.advance(RETENTION - 600)
    await store.put(EVENT, often.key, again(often, clock.now()))
    assert len(await store.list(EVENT)) == 2
    await clock.advance(1200)
    assert list(await store.list(EVENT)) == [often.key]
    sweeping.cancel()
