"""Forgets events that are long past, as Kubernetes does."""

from __future__ import annotations

import logging

from edgevirt.fleet.objects.base import seconds_of
from edgevirt.fleet.objects.event import RETENTION, Event
from edgevirt.fleet.objects.kinds import EVENT
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.store import Conflict, Store, StoreError

SWEEP_SECONDS = 300.0
MAX_EVENTS = 50_000
"""Beyond that the oldest go early, so that a fleet in trouble does not fill its disk."""

log = logging.getLogger("edgevirt.fleet.api")


def last_seen(event: Event) -> float:
    """When it last happened; 0 when it does not say."""
    series = event.series.last_observed_time if event.series else None
    stamps = (series, event.last_timestamp, event.event_time, event.metadata.creation_timestamp)
    for stamp in stamps:
        if stamp:
            return seconds_of(stamp)
    return 0.0


async def sweep(store: Store, now: float) -> int:
    """Deletes what is too old or too much; how many."""
    found = sorted(
        (last_seen(resource.value), key, resource.version)
        for key, resource in (await store.list(EVENT)).items()
    )
    surplus = len(found) - MAX_EVENTS
    done = 0
    for index, (when, key, version) in enumerate(found):
        if when >= now - RETENTION and index >= surplus:
            break
        try:
            done += await store.delete(EVENT, key, expect=version)
        except Conflict:
            continue  # it happened again
    return done


async def forget_events(store: Store, clock: Clock) -> None:
    """Sweeps for ever."""
    while True:
        try:
            await sweep(store, clock.now())
        except StoreError as error:
            log.warning("cannot forget old events, trying again in a while: %s", error)
        await clock.sleep(SWEEP_SECONDS)
