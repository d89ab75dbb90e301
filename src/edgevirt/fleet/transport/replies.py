"""What the nodes' API answers, encoded once for as many requests as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Final, NamedTuple

PROTO: Final = b"application/x-proto-binary"
JSON: Final = b"application/json"


class Response:
    """A status with an optional body; immutable, and shared between requests.

    `head` is the status line and headers, less those that depend on moment and connection.
    """

    __slots__ = ("body", "head", "status")

    def __init__(self, status: HTTPStatus, body: bytes = b"", content_type: bytes = PROTO) -> None:
        self.status = int(status)
        self.body = body
        lines = [b"HTTP/1.1 %d %s" % (status.value, status.phrase.encode())]
        if body:
            lines.append(b"Content-Type: " + content_type)
        if status is not HTTPStatus.NOT_MODIFIED:  # its length would be the unsent body's
            lines.append(b"Content-Length: %d" % len(body))
        self.head = b"\r\n".join(lines) + b"\r\n"

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"


class AfterCommit(NamedTuple):
    """`response` once `commit` is done; if that fails, the node has to come again."""

    commit: asyncio.Future[None]
    response: Response


Request = tuple[bytes, bytes, bytes]
"""Method, path and body."""

Reply = Response | AfterCommit | Awaitable[Response]

OK: Final = Response(HTTPStatus.OK)
CREATED: Final = Response(HTTPStatus.CREATED)
NOT_MODIFIED: Final = Response(HTTPStatus.NOT_MODIFIED)
BAD_REQUEST: Final = Response(HTTPStatus.BAD_REQUEST)
UNAUTHORIZED: Final = Response(HTTPStatus.UNAUTHORIZED)
FORBIDDEN: Final = Response(HTTPStatus.FORBIDDEN)
NOT_FOUND: Final = Response(HTTPStatus.NOT_FOUND)
METHOD_NOT_ALLOWED: Final = Response(HTTPStatus.METHOD_NOT_ALLOWED)
CONFLICT: Final = Response(HTTPStatus.CONFLICT)
TOO_LARGE: Final = Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
UNPROCESSABLE: Final = Response(HTTPStatus.UNPROCESSABLE_ENTITY)
HEADERS_TOO_LARGE: Final = Response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
FAILED: Final = Response(HTTPStatus.INTERNAL_SERVER_ERROR)
NOT_IMPLEMENTED: Final = Response(HTTPStatus.NOT_IMPLEMENTED)
UNAVAILABLE: Final = Response(HTTPStatus.SERVICE_UNAVAILABLE)
"""For whatever is temporary: nodes drop what they were told 400 or 404 about."""
