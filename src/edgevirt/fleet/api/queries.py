"""What a request asks for, parsed once: the options in its query and headers."""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from starlette.requests import Request

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.bodies.drafts import Options, Validation
from edgevirt.fleet.api.errors import bad_request
from edgevirt.fleet.api.registry.selectors import Selector, parse_fields, parse_labels
from edgevirt.fleet.api.registry.watching import Wanted
from edgevirt.fleet.objects.kinds import ApiKind
from edgevirt.fleet.operators.roles import User

MAX_MANAGER = 128
MAX_LIMIT = 100_000
WATCH_SECONDS = 1800.0
"""Of a watch that does not say how long; up to twice as long, so that not all end together."""


class Continue(msgspec.Struct, frozen=True):
    """Where the next page of a list begins; opaque to clients."""

    version: int
    after: str


def write_options(
    query: Mapping[str, str], user: User, agent: str, subresource: str = ""
) -> Options:
    validation = query.get("fieldValidation") or "Warn"
    if validation not in get_args(Validation):
        allowed = ", ".join(get_args(Validation))
        raise bad_request(f"fieldValidation must be one of {allowed}, not {validation!r}")
    manager = query.get("fieldManager") or agent.partition("/")[0] or "unknown"
    if len(manager) > MAX_MANAGER or not manager.isprintable():
        raise bad_request(f"fieldManager must be at most {MAX_MANAGER} printable characters")
    return Options(
        user=user.name,
        manager=manager,
        subresource="status" if subresource == "status" else "",
        dry_run=dry_run(query),
        force=query.get("force", "").lower() in ("true", "1"),
        validation=validation,  # type: ignore[arg-type]  # it is one of them
    )


def dry_run(query: Mapping[str, str]) -> bool:
    value = query.get("dryRun", "")
    if value not in ("", "All"):
        raise bad_request(f"dryRun must be All, not {value!r}")
    return value == "All"


def selector(query: Mapping[str, str], kind: ApiKind[Any]) -> Selector:
    return Selector(
        parse_labels(query.get("labelSelector", "")),
        parse_fields(query.get("fieldSelector", ""), kind),
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def number(query: Mapping[str, str], name: str, default: int = 0) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad_request(f"{name} must be a number, not {text!r}")
    return int(text)


def limit(query: Mapping[str, str]) -> int:
    return min(number(query, "limit"), MAX_LIMIT)


def continue_of(query: Mapping[str, str]) -> Continue | None:
    token = query.get("continue", "")
    if not token:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=Continue)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise bad_request("continue key is not valid: begin the list anew") from None


def continue_token(version: int, after: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(Continue(version, after))).decode()


def wanted(query: Mapping[str, str], kind: ApiKind[Any], namespace: str | None) -> Wanted:
    """Of a watch. Kubernetes' semantics of `resourceVersion`: absent or 0 begins with what there
    is, a version goes on from there; `sendInitialEvents` says it openly."""
    version = number(query, "resourceVersion")
    initial = query.get("sendInitialEvents", "").lower()
    if initial and query.get("resourceVersionMatch") != "NotOlderThan":
        raise bad_request("sendInitialEvents needs resourceVersionMatch=NotOlderThan")
    whole = initial in ("true", "1")
    seconds = number(query, "timeoutSeconds") or WATCH_SECONDS * (1 + random.random())  # noqa: S311
    bookmarks = flag(query, "allowWatchBookmarks")
    return Wanted(
        kind=kind,
        namespace=namespace,
        selector=selector(query, kind),
        since=None if whole or not version else version,
        bookmarks=bookmarks,
        initial_end=whole and bookmarks,
        silent_start=bool(initial) and not whole and not version,
        seconds=float(seconds),
    )


def include_object(query: Mapping[str, str]) -> str:
    value = query.get("includeObject") or "Metadata"
    if value not in ("Metadata", "Object", "None"):
        raise bad_request(f"includeObject must be Metadata, Object or None, not {value!r}")
    return value


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_media(request: Request, supported: tuple[str, ...], absent: str = "") -> str:
    """`absent`: what a body is that does not say."""
    given = media_type(request) or absent
    if given not in supported:
        raise errors.unsupported_media(given, supported)
    return given
