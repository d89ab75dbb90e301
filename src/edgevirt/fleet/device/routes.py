"""The nodes' API as a table: path, who signs, how large a body may be, what answers.

Paths are relative to `/api/v2/edgedevice/`; `{app}` stands for an app's UUID. Routes of nodes are
below `id/{uuid}/`, and that UUID must be the signer's own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgevirt.fleet.device.replies import Reply

if TYPE_CHECKING:
    from edgevirt.fleet.device.handler import Handler

PREFIX: Final = b"/api/v2/edgedevice/"
KIB: Final = 1 << 10
MIB: Final = 1 << 20


class Sender(enum.Enum):
    """Whose signature a request needs."""

    NOBODY = "nobody"
    ONBOARDING = "onboarding certificate"
    DEVICE = "device certificate"


@dataclass(frozen=True)
class Route:
    """`act` gets the handler, then: of NOBODY nothing, of ONBOARDING the opened envelope, of
    DEVICE the row in the registry, the payload, and the app where the path names one.
    """

    method: bytes
    path: str
    sender: Sender
    limit: int
    act: Callable[..., Reply]


def _node(path: str, limit: int, act: Callable[[Handler, int, bytes], Reply]) -> Route:
    return Route(b"POST", f"id/{{uuid}}/{path}", Sender.DEVICE, limit, act)


def _app(path: str, limit: int, act: Callable[[Handler, int, bytes, str], Reply]) -> Route:
    return Route(b"POST", path, Sender.DEVICE, limit, act)


def _app_logs(handler: Handler, row: int, payload: bytes, app: str) -> Reply:
    return handler.reports.app_logs(handler.registry.node(row), app, payload)


def _old_app_logs(handler: Handler, row: int, payload: bytes, app: str) -> Reply:
    return handler.reports.old_app_logs(handler.registry.node(row), app, payload)


ROUTES: Final = (
    Route(b"GET", "ping", Sender.NOBODY, 4 * KIB, lambda h: h.ping()),
    Route(b"GET", "certs", Sender.NOBODY, 4 * KIB, lambda h: h.certs()),
    Route(b"POST", "register", Sender.ONBOARDING, 64 * KIB, lambda h, opened: h.register(opened)),
    Route(b"POST", "uuid", Sender.DEVICE, 4 * KIB, lambda h, row, body: h.uuid(row, body)),
    _node("config", 16 * KIB, lambda h, row, body: h.config(row, body)),
    _node("attest", 256 * KIB, lambda h, row, body: h.attest(row, body)),
    _node("info", 512 * KIB, lambda h, row, body: h.reports.info(h.registry.node(row), body)),
    _node("metrics", MIB, lambda h, row, body: h.reports.metrics(h.registry.node(row), body)),
    _node("flowlog", MIB, lambda h, row, body: h.reports.flows(h.registry.node(row), body)),
    _node("hardwarehealth", MIB, lambda h, row, body: h.reports.health(h.registry.node(row), body)),
    _node(
        "newlogs", 72 * KIB, lambda h, row, body: h.reports.node_logs(h.registry.node(row), body)
    ),
    _app("id/{uuid}/apps/instanceid/{app}/newlogs", 72 * KIB, _app_logs),
    # As documented, without the node; the signer is the node.
    _app("apps/instanceid/{app}/newlogs", 72 * KIB, _app_logs),
    # Of old nodes.
    _node("logs", MIB, lambda h, row, body: h.reports.old_node_logs(h.registry.node(row), body)),
    _app("id/{uuid}/apps/instanceid/{app}/logs", MIB, _old_app_logs),
    _app("id/{uuid}/apps/instances/id/{app}/logs", MIB, _old_app_logs),
    _app("apps/instanceid/{app}/logs", MIB, _old_app_logs),
)

UNKNOWN_LIMIT: Final = 64 * KIB
"""For bodies of requests that have no route: read, then answered 404."""


Found = tuple[Route | None, bytes, bytes]


class Table:
    """Finds a route without going through all of them. The last answer is kept: a transport asks
    for the limit, then for the answer.
    """

    def __init__(self) -> None:
        self._routes: dict[bytes, Route] = {route.path.encode(): route for route in ROUTES}
        self._last: tuple[bytes, Found] = (b"", (None, b"", b""))

    def find(self, path: bytes) -> Found:
        """The route, the node's UUID and the app's, as they stand in the path."""
        known, found = self._last
        if path is not known:
            found = self._look_up(path)
            self._last = (path, found)
        return found

    def _look_up(self, path: bytes) -> Found:
        if not path.startswith(PREFIX) and not path.lower().startswith(PREFIX):
            return None, b"", b""  # the other spelling, edgeDevice, stands in some documents
        rest = path[len(PREFIX) :].partition(b"?")[0]
        node = app = b""
        if rest.startswith(b"id/"):
            node, slash, tail = rest[3:].partition(b"/")
            rest = b"id/{uuid}" + slash + tail
        route = self._routes.get(rest)
        if route is None and b"apps/inst" in rest:
            head, slash, last = rest.rpartition(b"/")
            before, slash, app = head.rpartition(b"/")
            route = self._routes.get(before + b"/{app}" + slash + last)
        return route, node, app
