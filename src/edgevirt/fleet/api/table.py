"""The table of routes: what can be done at each path, and what else there is of an object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from edgevirt.fleet.api import handlers
from edgevirt.fleet.api.handlers import Handler
from edgevirt.fleet.objects.base.object import ApiObject
from edgevirt.fleet.objects.kinds import SERVED, ApiKind
from edgevirt.fleet.operators.roles import User

Answer = Callable[[Request, ApiObject], Awaitable[Response]]


@dataclass(frozen=True)
class Subresource:
    """Something to read about an object that is not kept with it: logs, metrics.

    `kind`: name of the object's kind. `answer` is called for those who may read the object.
    """

    kind: str
    name: str
    answer: Answer


@dataclass(frozen=True)
class Stream:
    """Something to be at for a while: a websocket. `answer` is called, before it is accepted, for
    those who may create the subresource; it may still raise ApiError as long as it is not."""

    kind: str
    name: str
    answer: Callable[[WebSocket, ApiObject, User], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """One line of the table: method → (verb, handler)."""

    path: str
    methods: dict[str, tuple[str, Handler]]
    subresource: str = ""


_COLLECTION: dict[str, tuple[str, Handler]] = {
    "GET": ("list", handlers.list_or_watch),
    "POST": ("create", handlers.create),
    "DELETE": ("deletecollection", handlers.delete_all),
}
_EVERYWHERE: dict[str, tuple[str, Handler]] = {"GET": ("list", handlers.list_or_watch)}
_SUBRESOURCE: dict[str, tuple[str, Handler]] = {
    "GET": ("get", handlers.get),
    "PUT": ("update", handlers.replace),
    "PATCH": ("patch", handlers.patch),
}
_OBJECT = {**_SUBRESOURCE, "DELETE": ("delete", handlers.delete)}


def rows(kind: ApiKind[Any]) -> Iterator[Row]:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    place = f"{root}/{kind.plural}"
    if kind.namespaced:
        yield Row(place, _EVERYWHERE)
        place = f"{root}/namespaces/{{namespace}}/{kind.plural}"
    yield Row(place, _COLLECTION)
    yield Row(f"{place}/{{name}}", _OBJECT)
    if kind.has_status:
        yield Row(f"{place}/{{name}}/status", _SUBRESOURCE, "status")
    if kind.name == "EnrollmentRequest":
        yield Row(f"{place}/{{name}}/approval", _SUBRESOURCE, "approval")


def row_of(kind_name: str) -> tuple[ApiKind[Any], Row]:
    """The kind, and the row of its objects."""
    kind = next(kind for kind in SERVED if kind.name == kind_name)
    *_, row = (row for row in rows(kind) if row.path.endswith("/{name}"))
    return kind, row
