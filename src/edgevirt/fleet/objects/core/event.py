"""Event: something that happened to an object, for people to read. core/v1 and events.k8s.io/v1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.base.columns import Column, since
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Time, born, timestamp
from edgevirt.fleet.objects.base.problems import Problem, required

COMPONENT = "edgevirt-fleet"
RETENTION = 3600.0
"""Seconds that an event is kept after it last happened, as in Kubernetes."""


class ObjectReference(ApiStruct, frozen=True, kw_only=True):
    """Any object."""

    kind: str = ""
    """Its kind."""
    namespace: str = ""
    """Its namespace."""
    name: str = ""
    """Its name."""
    uid: str = ""
    """Its UID."""
    api_version: str = ""
    """Its API version."""
    resource_version: str = ""
    """Its version at that moment."""
    field_path: str = ""
    """The part of it that is meant."""


class EventSource(ApiStruct, frozen=True, kw_only=True):
    """Who reported."""

    component: str = ""
    """The program."""
    host: str = ""
    """The node on which it runs."""


class EventSeries(ApiStruct, frozen=True, kw_only=True):
    """A run of the same event."""

    count: int = 0
    """How often it happened."""
    last_observed_time: Time | None = None
    """When it last happened."""


class Event(ApiObject, frozen=True, kw_only=True):
    """Something that happened to an object."""

    involved_object: ObjectReference = ObjectReference()
    """What it happened to."""
    reason: str = ""
    """What happened, as one word in CamelCase."""
    message: str = ""
    """What happened, for people."""
    source: EventSource = EventSource()
    """Who reported it."""
    first_timestamp: Time | None = None
    """When it happened first."""
    last_timestamp: Time | None = None
    """When it happened last."""
    count: int = 0
    """How often it happened."""
    type: str = "Normal"
    """`Normal` or `Warning`."""
    event_time: Time | None = None
    """When it was observed first, with microseconds."""
    series: EventSeries | None = None
    """The run of events that this one stands for."""
    action: str = ""
    """What was done about the object."""
    related: ObjectReference | None = None
    """A second object that it is about."""
    reporting_component: str = ""
    """The program that reported it."""
    reporting_instance: str = ""
    """The instance of that program."""


def make_event(
    about: ObjectReference,
    reason: str,
    message: str,
    now: float,
    *,
    warning: bool = False,
    component: str = COMPONENT,
    host: str = "",
) -> Event:
    """A new event. The same event about the same object has the same name, so that `again` can
    count it instead of keeping it twice."""
    words = "\0".join((about.uid, about.kind, about.name, reason, message, component, host))
    mark = hashlib.sha256(words.encode()).hexdigest()[:16]
    return Event(
        metadata=born(f"{about.name[:200]}.{mark}", about.namespace or "default", now),
        involved_object=about,
        reason=reason,
        message=message[:1024],
        source=EventSource(component=component, host=host),
        first_timestamp=timestamp(now),
        last_timestamp=timestamp(now),
        count=1,
        type="Warning" if warning else "Normal",
        reporting_component=component,
        reporting_instance=host,
    )


def again(old: Event, now: float) -> Event:
    """`old`, which happened once more."""
    return msgspec.structs.replace(old, count=old.count + 1, last_timestamp=timestamp(now))


def validate(event: Event) -> Iterator[Problem]:
    if not event.involved_object.name:
        yield required("involvedObject.name")


def _object(event: Event, _now: float) -> str:
    return f"{event.involved_object.kind.lower()}/{event.involved_object.name}"


def _last(event: Event, now: float) -> str:
    return since(event.last_timestamp or event.event_time, now)


COLUMNS = (
    Column("Last Seen", _last, description="Time since it last happened"),
    Column("Type", lambda e, _: e.type, description="Normal or Warning"),
    Column("Reason", lambda e, _: e.reason, description="What happened, as one word"),
    Column("Object", _object, description="What it happened to"),
    Column(
        "Source",
        lambda e, _: e.source.component or e.reporting_component,
        priority=1,
        description="Who reported it",
    ),
    Column("Message", lambda e, _: e.message, description="What happened"),
    Column("First Seen", lambda e, now: since(e.first_timestamp, now), priority=1),
    Column("Count", lambda e, _: e.count, "integer", priority=1),
    Column("Name", lambda e, _: e.metadata.name, format="name", priority=1),
)
