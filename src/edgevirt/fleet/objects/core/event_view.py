"""Event in the newer form that Kubernetes serves beside core/v1: events.k8s.io/v1."""

from __future__ import annotations

from edgevirt.fleet.objects.base.object import ApiObject, Time
from edgevirt.fleet.objects.core.event import Event, EventSeries, EventSource, ObjectReference

SELECTABLE = (
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
)


class EventV1(ApiObject, frozen=True, kw_only=True):
    """Something that happened to an object."""

    event_time: Time | None = None
    """When it was observed first, with microseconds."""
    series: EventSeries | None = None
    """The run of events that this one stands for."""
    reporting_controller: str = ""
    """The program that reported it."""
    reporting_instance: str = ""
    """The instance of that program."""
    action: str = ""
    """What was done about the object."""
    reason: str = ""
    """What happened, as one word in CamelCase."""
    regarding: ObjectReference = ObjectReference()
    """What it happened to."""
    related: ObjectReference | None = None
    """A second object that it is about."""
    note: str = ""
    """What happened, for people."""
    type: str = "Normal"
    """`Normal` or `Warning`."""
    deprecated_source: EventSource = EventSource()
    """As `source` of core/v1."""
    deprecated_first_timestamp: Time | None = None
    """As `firstTimestamp` of core/v1."""
    deprecated_last_timestamp: Time | None = None
    """As `lastTimestamp` of core/v1."""
    deprecated_count: int = 0
    """As `count` of core/v1."""


def outward(event: Event) -> EventV1:
    return EventV1(
        metadata=event.metadata,
        event_time=event.event_time,
        series=event.series,
        reporting_controller=event.reporting_component,
        reporting_instance=event.reporting_instance,
        action=event.action,
        reason=event.reason,
        regarding=event.involved_object,
        related=event.related,
        note=event.message,
        type=event.type,
        deprecated_source=event.source,
        deprecated_first_timestamp=event.first_timestamp,
        deprecated_last_timestamp=event.last_timestamp,
        deprecated_count=event.count,
    )


def inward(event: EventV1) -> Event:
    return Event(
        metadata=event.metadata,
        involved_object=event.regarding,
        reason=event.reason,
        message=event.note,
        source=event.deprecated_source,
        first_timestamp=event.deprecated_first_timestamp,
        last_timestamp=event.deprecated_last_timestamp,
        count=event.deprecated_count,
        type=event.type,
        event_time=event.event_time,
        series=event.series,
        action=event.action,
        related=event.related,
        reporting_component=event.reporting_controller,
        reporting_instance=event.reporting_instance,
    )
