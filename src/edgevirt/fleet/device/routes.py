"""Routes of the nodes' API: path, who signs, how large a body may be, what answers.

Paths are relative to `/api/v2/edgedevice/`; `{app}` stands for an app's UUID. Routes of nodes are
below `id/{uuid}/`, and that UUID must be the signer's own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from edgevirt.fleet.transport.replies import Reply

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


UNKNOWN_LIMIT: Final = 64 * KIB
"""For bodies of requests that have no route: read, then answered 404."""


Found = tuple[Route | None, bytes, bytes]


class Table:
    """Finds a route without going through all of them. The last answer is kept: a transport asks
    for the limit, then for the answer.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {route.path.encode(): route for route in routes}
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
