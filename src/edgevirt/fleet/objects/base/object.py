"""What every object of the operators' API is made of: Kubernetes' own metadata and conditions.

Objects are frozen values. `apiVersion` and `kind` are the table's (`kinds.py`), not the value's,
and `resourceVersion` is the store's version: neither is kept in a stored object. JSON names are
the fields' names in camelCase. The text below a field is what `kubectl explain` shows.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Annotated, Any, ClassVar, Literal

import msgspec

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, with a time zone."""

StringSet = Annotated[
    tuple[str, ...], msgspec.Meta(extra_json_schema={"x-kubernetes-list-type": "set"})
]
"""A list in which several managers may each own some elements (server-side apply)."""


class ApiStruct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A part of an object. Evolves by adding fields with defaults; unknown fields are skipped."""

    merge_keys: ClassVar[tuple[str, ...]] = ()
    """JSON names of the fields by which one element of a list of these is told from another, so
    that managers may own single elements; empty: such a list is owned whole."""


class OwnerReference(ApiStruct, frozen=True, kw_only=True):
    """An object that this one belongs to."""

    merge_keys = ("uid",)

    api_version: str
    """API version of the owner."""
    kind: str
    """Kind of the owner."""
    name: str
    """Name of the owner."""
    uid: str
    """UID of the owner."""
    controller: bool | None = None
    """Whether the owner is the managing controller."""
    block_owner_deletion: bool | None = None
    """Kept for clients; nothing waits for it."""


class ManagedFields(ApiStruct, frozen=True, kw_only=True):
    """Which fields one manager set (server-side apply)."""

    manager: str = ""
    """Who: the `fieldManager` of the request."""
    operation: str = ""
    """`Apply` or `Update`."""
    api_version: str = ""
    """Version that the fields are named in."""
    time: Time | None = None
    """When it last changed one of them."""
    fields_type: str = ""
    """`FieldsV1`."""
    fields_v1: dict[str, Any] = msgspec.field(default_factory=dict, name="fieldsV1")
    """The set of fields, as nested maps."""
    subresource: str = ""
    """`status`, or empty for the main resource."""


class ObjectMeta(ApiStruct, frozen=True, kw_only=True):
    """What all objects have: a name, labels, and what the server keeps about them."""

    name: str = ""
    """Unique among the objects of this kind in the namespace. Cannot be changed."""
    generate_name: str = ""
    """A prefix; the server adds a suffix when `name` is empty."""
    namespace: str = ""
    """The project that the object belongs to. Cannot be changed."""
    uid: str = ""
    """Unique in time and space; set by the server."""
    resource_version: str = ""
    """Changes with every change of the object; set by the server."""
    generation: int = 0
    """Grows with every change of the spec; set by the server."""
    creation_timestamp: Time | None = None
    """When the server created the object."""
    deletion_timestamp: Time | None = None
    """When deletion was asked for; the object goes when its finalizers are gone."""
    deletion_grace_period_seconds: int | None = None
    """Always 0 once deletion was asked for."""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    """Names and values by which objects are selected."""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    """Names and values that tools keep on the object."""
    finalizers: StringSet = ()
    """Who still has something to do before the object may go."""
    owner_references: tuple[OwnerReference, ...] = ()
    """Objects that this one belongs to."""
    managed_fields: tuple[ManagedFields, ...] = ()
    """Who set which field; kept by the server."""
    self_link: str = ""
    """Obsolete; ignored."""


ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(ApiStruct, frozen=True, kw_only=True):
    """One aspect of an object's state."""

    merge_keys = ("type",)

    type: str
    """Name of the aspect, in CamelCase."""
    status: ConditionStatus
    """`True`, `False` or `Unknown`."""
    last_transition_time: Time | None = None
    """When `status` last changed."""
    reason: str = ""
    """Why, as one word in CamelCase."""
    message: str = ""
    """Why, for people."""
    observed_generation: int | None = None
    """The generation of the spec that this was seen of."""


class LocalRef(ApiStruct, frozen=True, kw_only=True):
    """An object in the same namespace, by name."""

    name: str
    """Its name."""


class ApiObject(ApiStruct, frozen=True, kw_only=True):
    """Base of all kinds."""

    metadata: ObjectMeta = ObjectMeta()
    """Standard metadata."""

    @property
    def key(self) -> str:
        """The object's key in the store."""
        return object_key(self.metadata.namespace, self.metadata.name)


def object_key(namespace: str, name: str) -> str:
    """`namespace/name`; for kinds without a namespace just `name`."""
    return f"{namespace}/{name}" if namespace else name


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes `Time`."""
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(stamp: str) -> float:
    """The reverse of `timestamp`; raises ValueError."""
    moment = datetime.datetime.fromisoformat(stamp)
    if moment.tzinfo is None:
        raise ValueError(f"cannot read time {stamp!r}: it has no time zone")
    return moment.timestamp()


def born(
    name: str,
    namespace: str,
    now: float,
    *,
    labels: dict[str, str] | None = None,
    owners: tuple[OwnerReference, ...] = (),
) -> ObjectMeta:
    """Metadata of a new object that the fleet itself makes."""
    return ObjectMeta(
        name=name,
        namespace=namespace,
        uid=str(uuid.uuid4()),
        generation=1,
        creation_timestamp=timestamp(now),
        labels=labels or {},
        owner_references=owners,
    )


def find_condition(conditions: tuple[Condition, ...], type: str) -> Condition | None:
    return next((c for c in conditions if c.type == type), None)


def set_condition(
    conditions: tuple[Condition, ...], new: Condition, now: float
) -> tuple[Condition, ...]:
    """With `new` in place of the one of its type; the transition time moves only with `status`."""
    old = find_condition(conditions, new.type)
    since = old.last_transition_time if old and old.status == new.status else timestamp(now)
    new = msgspec.structs.replace(new, last_transition_time=since)
    if old is None:
        return (*conditions, new)
    return tuple(new if c.type == new.type else c for c in conditions)
