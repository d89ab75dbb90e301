"""How a request's body becomes an object: pure, and the same for every kind."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.bodies import managers
from edgevirt.fleet.api.errors import Json
from edgevirt.fleet.api.shapes.checking import check
from edgevirt.fleet.api.shapes.shapes import encode, shape_of
from edgevirt.fleet.objects.base.object import ApiObject, ManagedFields, timestamp
from edgevirt.fleet.objects.base.problems import Problem, forbidden, invalid
from edgevirt.fleet.objects.kinds import ApiKind

Validation = Literal["Strict", "Warn", "Ignore"]

_KEPT = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
    "generation",
)
"""Metadata that no client changes."""


@dataclass(frozen=True)
class Held:
    """An object as it is served; `version` 0: it isn't stored (a dry run)."""

    kind: ApiKind[Any]
    value: ApiObject
    version: int

    @property
    def body(self) -> Json:
        body: Json = encode(self.value)
        if self.version:
            body["metadata"]["resourceVersion"] = str(self.version)
        return {"apiVersion": self.kind.api_version, "kind": self.kind.name, **body}


@dataclass
class Options:
    """Of a write. `manager`: who owns the fields that it sets. Warnings are added to."""

    user: str
    manager: str
    subresource: str = ""
    dry_run: bool = False
    force: bool = False
    validation: Validation = "Warn"
    warnings: list[str] = field(default_factory=list)


def read_draft(kind: ApiKind[Any], namespace: str, body: Any, options: Options) -> Json:
    """The body without what the kind does not have. Raises ApiError."""
    if not isinstance(body, dict):
        raise errors.bad_request("the body must be an object")
    given = (body.get("apiVersion"), body.get("kind"))
    if given != (kind.api_version, kind.name):
        raise errors.bad_request(
            f"the body is of apiVersion {given[0]!r} and kind {given[1]!r}, but the path is of "
            f"{kind.api_version!r} and {kind.name!r}"
        )
    rest = {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
    checked = check(rest, shape_of(kind.type))
    unknown = [_unknown(path, checked.near.get(path, "")) for path in checked.unknown]
    meta = rest.get("metadata")
    name = str(meta.get("name", "")) if isinstance(meta, dict) else ""
    if checked.unknown and options.validation == "Strict":
        raise errors.bad_request(f"strict decoding error: {', '.join(unknown)}")
    if checked.problems:
        raise errors.invalid(kind, name, checked.problems)
    if options.validation == "Warn":
        options.warnings += unknown
    draft: Json = checked.value
    meta = draft.setdefault("metadata", {})
    given_namespace = meta.get("namespace") or namespace
    if kind.namespaced and given_namespace != namespace:
        raise errors.bad_request(mismatch("namespace", given_namespace, namespace))
    meta["namespace"] = namespace
    return draft


def _unknown(path: str, near: str) -> str:
    return f'unknown field "{path}"' + (f'; did you mean "{near}"?' if near else "")


def writer_of(kind: ApiKind[Any], options: Options, now: float) -> managers.Writer:
    return managers.Writer(options.manager, kind.api_version, timestamp(now), options.subresource)


def newborn(
    kind: ApiKind[Any],
    draft: Json,
    options: Options,
    now: float,
    entries: list[managers.Entry] | None,
) -> ApiObject:
    """The first value of an object. `entries`: who owns its fields, where that is known."""
    server_kept = {*_KEPT, "resourceVersion", "selfLink", "managedFields"} - {"generateName"}
    meta = {key: v for key, v in draft["metadata"].items() if key not in server_kept}
    meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(now), "generation": 1}
    body = {**draft, "metadata": meta}
    if kind.has_status:
        body.pop("status", None)
    value: ApiObject = msgspec.convert(body, kind.type)
    value = kind.settle(value, None, options.user, now)
    if entries is None:
        managed = draft["metadata"].get("managedFields", [])
        entries = managers.after_update(
            _entries(managed), {}, encode(value), shape_of(kind.type), writer_of(kind, options, now)
        )
    return with_meta(value, managed_fields=managers.write(entries))


def successor(
    held: Held, draft: Json, options: Options, now: float, entries: list[managers.Entry] | None
) -> ApiObject:
    """The value that `draft` makes of what is `held`."""
    kind = held.kind
    old = encode(held.value)
    meta = dict(draft["metadata"])
    managed = meta.pop("managedFields", None)
    if options.subresource == "status":
        meta = {key: v for key, v in old["metadata"].items() if key != "managedFields"}
        body = {**old, "status": draft.get("status", {})}
    else:
        body = dict(draft)
        if kind.has_status:
            body["status"] = old.get("status", {})
    for name in ("resourceVersion", "selfLink", *_KEPT):
        meta.pop(name, None)
        if name in old["metadata"]:
            meta[name] = old["metadata"][name]
    body["metadata"] = meta
    value: ApiObject = msgspec.convert(body, kind.type)
    value = kind.settle(value, held.value, options.user, now)
    new = encode(value)
    if intent(new) != intent(old):
        value = with_meta(value, generation=held.value.metadata.generation + 1)
    if entries is None:
        before = held.value.metadata.managed_fields
        entries = managers.after_update(
            managers.read(before) if managed is None else _entries(managed),
            old,
            new,
            shape_of(kind.type),
            writer_of(kind, options, now),
        )
    return with_meta(value, managed_fields=managers.write(entries))


def part_of(draft: Json, subresource: str) -> Json:
    """What of a body a (sub)resource is about."""
    if subresource == "status":
        return {key: value for key, value in draft.items() if key == "status"}
    return {key: value for key, value in draft.items() if key != "status"}


def intent(body: Json) -> Json:
    """What a new generation is counted for."""
    return {key: value for key, value in body.items() if key not in ("metadata", "status")}


def with_meta(value: ApiObject, **changes: Any) -> ApiObject:
    meta = msgspec.structs.replace(value.metadata, **changes)
    return msgspec.structs.replace(value, metadata=meta)


def check_change(kind: ApiKind[Any], value: ApiObject, old: ApiObject) -> list[Problem]:
    """What must not change once it is there."""
    new_body, old_body = encode(value), encode(old)
    changed = [
        (path, _at(old_body, path), _at(new_body, path))
        for path in kind.immutable
        if _at(old_body, path) != _at(new_body, path)
    ]
    problems = [
        invalid(path, after, f"field is immutable; it was {before!r}")
        for path, before, after in changed
    ]
    if kind.name == "Secret" and old_body.get("immutable"):
        problems += [
            forbidden(name, "the secret is immutable")
            for name in ("data", "immutable")
            if old_body.get(name) != new_body.get(name)
        ]
    added = set(value.metadata.finalizers) - set(old.metadata.finalizers)
    if old.metadata.deletion_timestamp is not None and added:
        why = f"no new finalizers can be added if the object is being deleted: {sorted(added)}"
        problems.append(forbidden("metadata.finalizers", why))
    return problems


def mismatch(what: str, given: str, wanted: str) -> str:
    return (
        f"the {what} of the provided object does not match the {what} sent on the request: "
        f"{given!r} and {wanted!r}"
    )


def _entries(managed: Any) -> list[managers.Entry]:
    """From a client's managedFields; `[{}]` clears them."""
    return managers.read(msgspec.convert(managed, tuple[ManagedFields, ...]))


def _at(body: Any, path: str) -> Any:
    for part in path.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body
