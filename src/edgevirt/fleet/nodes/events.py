"""Events: what happened to an object, told once and counted when it happens again."""

from __future__ import annotations

from typing import Final

from edgevirt.fleet.objects import kinds
from edgevirt.fleet.objects.base.object import ApiObject, seconds_of
from edgevirt.fleet.objects.core.event import RETENTION, Event, ObjectReference, again, make_event
from edgevirt.runtime import Clock, Store
from edgevirt.runtime.amend import amend

MAX_EVENTS: Final = 10_000
"""Kept at most; the oldest go first."""
_API_VERSION: Final = f"{kinds.GROUP}/{kinds.VERSION}"


class Recorder:
    """Writes events about objects of this API."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def tell(
        self, kind: str, about: ApiObject, reason: str, message: str, *, warning: bool = False
    ) -> None:
        """`reason`: one word in CamelCase."""
        meta = about.metadata
        reference = ObjectReference(
            kind=kind,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            api_version=_API_VERSION,
        )
        now = self._clock.now()
        event = make_event(reference, reason, message, now, warning=warning)
        await amend(
            self._store, kinds.EVENT, event.key, lambda old: again(old, now) if old else event
        )

    async def sweep(self) -> None:
        """Deletes what is too old, or too much; to be called every few minutes."""
        present = await self._store.list(kinds.EVENT)
        ages = sorted((_last(resource.value), key) for key, resource in present.items())
        oldest = self._clock.now() - RETENTION
        for number, (last, key) in enumerate(ages):
            if last >= oldest and len(ages) - number <= MAX_EVENTS:
                break
            await self._store.delete(kinds.EVENT, key)


def _last(event: Event) -> float:
    stamp = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return seconds_of(stamp) if stamp else 0.0
