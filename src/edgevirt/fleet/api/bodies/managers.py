"""Who set which field: the bookkeeping of server-side apply (`metadata.managedFields`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgevirt.fleet.api.bodies import fieldsets
from edgevirt.fleet.api.bodies.fieldsets import Fields
from edgevirt.fleet.api.errors import manager_conflict
from edgevirt.fleet.api.shapes.shapes import Shape
from edgevirt.fleet.objects.base.object import ManagedFields

APPLY = "Apply"
UPDATE = "Update"
MAX_UPDATERS = 10
"""Managers of kind Update on one object; the oldest beyond that are put together."""
ANCIENT = "ancient-changes"

_NOBODYS = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "selfLink",
                "managedFields",
            )
        ),
    }
)
"""Fields that the server keeps; nobody owns them."""


@dataclass(frozen=True)
class Writer:
    """Who writes: a field manager, on the main resource or on `status`. `now`: RFC 3339."""

    manager: str
    api_version: str
    now: str
    subresource: str = ""


@dataclass(frozen=True)
class Entry:
    """One manager's fields."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str | None
    fields: Fields

    def is_of(self, writer: Writer, operation: str) -> bool:
        """One who applies is the same in any version; one who updates is another in each."""
        return (
            self.manager == writer.manager
            and self.operation == operation
            and self.subresource == writer.subresource
            and (operation == APPLY or self.api_version == writer.api_version)
        )


def read(managed: tuple[ManagedFields, ...]) -> list[Entry]:
    """Entries that cannot be read are left out."""
    entries = []
    for item in managed:
        try:
            fields = fieldsets.from_v1(item.fields_v1)
        except ValueError:
            continue
        if fields:
            entries.append(
                Entry(
                    item.manager,
                    item.operation,
                    item.api_version,
                    item.subresource,
                    item.time,
                    fields,
                )
            )
    return entries


def write(entries: list[Entry]) -> tuple[ManagedFields, ...]:
    kept = [entry for entry in entries if entry.fields]
    kept.sort(key=lambda e: (e.operation == UPDATE, e.time or "", e.manager))
    return tuple(
        ManagedFields(
            manager=entry.manager,
            operation=entry.operation,
            api_version=entry.api_version,
            time=entry.time,
            fields_type="FieldsV1",
            fields_v1=fieldsets.to_v1(entry.fields),
            subresource=entry.subresource,
        )
        for entry in _join_ancient(kept)
    )


def _join_ancient(entries: list[Entry]) -> list[Entry]:
    updaters = [entry for entry in entries if entry.operation == UPDATE]
    if len(updaters) <= MAX_UPDATERS:
        return entries
    old = updaters[: len(updaters) - MAX_UPDATERS + 1]
    joined = replace(
        old[-1],
        manager=ANCIENT,
        subresource="",
        fields=frozenset().union(*(entry.fields for entry in old)),
    )
    return [*(e for e in entries if e.operation != UPDATE), joined, *updaters[len(old) :]]


def own_leaves(
    body: Mapping[str, Any], shape: Shape, subresource: str
) -> dict[fieldsets.Path, Any]:
    """What a writer of this (sub)resource can own of an object."""
    status = ("f:status",)
    return {
        path: value
        for path, value in fieldsets.leaves(dict(body), shape).items()
        if path[:2] not in _NOBODYS
        and path[:1] not in _NOBODYS
        and (path[:1] == status) is (subresource == "status")
    }


def after_update(
    entries: list[Entry],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    shape: Shape,
    writer: Writer,
) -> list[Entry]:
    """Whoever changes a field by create, update or patch takes it from the others."""
    before = own_leaves(old, shape, writer.subresource)
    after = own_leaves(new, shape, writer.subresource)
    changed = frozenset(p for p, v in after.items() if p not in before or before[p] != v)
    removed = frozenset(before.keys() - after.keys())
    if not changed and not removed:
        return entries
    mine = frozenset[fieldsets.Path]()
    left = []
    for entry in entries:
        if entry.is_of(writer, UPDATE):
            mine = entry.fields
        else:
            left.append(replace(entry, fields=entry.fields - changed - removed))
    own = Entry(
        writer.manager,
        UPDATE,
        writer.api_version,
        writer.subresource,
        writer.now,
        (mine - removed) | changed,
    )
    return [*left, own]


@dataclass(frozen=True)
class Applied:
    body: dict[str, Any]
    entries: list[Entry]


def apply(
    entries: list[Entry],
    live: Mapping[str, Any],
    wanted: Mapping[str, Any],
    shape: Shape,
    writer: Writer,
    *,
    force: bool,
) -> Applied:
    """`live` with what `wanted` sets, and without what this manager set before and no longer does.

    Raises ApiError (409) when that would change another manager's field, unless `force`.
    """
    wants = own_leaves(wanted, shape, writer.subresource)
    has = own_leaves(live, shape, writer.subresource)
    others = [entry for entry in entries if not entry.is_of(writer, APPLY)]
    before = next((e for e in entries if e.is_of(writer, APPLY)), None)
    changed = frozenset(p for p, v in wants.items() if p in has and has[p] != v)
    rivals = [entry for entry in others if entry.fields & changed]
    if rivals and not force:
        raise manager_conflict(
            [
                (rival.manager, rival.api_version, fieldsets.for_people(path))
                for rival in rivals
                for path in sorted(rival.fields & changed)
            ]
        )
    others = [replace(entry, fields=entry.fields - changed) for entry in others]
    merged = fieldsets.merge(dict(live), dict(wanted), shape)
    set_now = frozenset(wants)
    if before is not None:
        theirs = frozenset[fieldsets.Path]().union(*(entry.fields for entry in others))
        kept = theirs | set_now
        merged = fieldsets.without(merged, shape, before.fields - kept, kept)
    same = before is not None and before.fields == set_now and not changed
    time = before.time if same and before is not None else writer.now
    own = Entry(writer.manager, APPLY, writer.api_version, writer.subresource, time, set_now)
    return Applied(merged, [*others, own])
