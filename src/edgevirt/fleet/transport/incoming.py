"""What one peer sends: HTTP/1.1, bounded while it comes in, taken apart into whole requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httptools

from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.answering import Waiting
from edgevirt.fleet.transport.replies import Response

_EXPECTS: Final = b"expect: 100-continue"
_END_OF_HEADERS: Final = b"\r\n\r\n"


@dataclass(frozen=True)
class Limits:
    """Bounds on what a peer may cost. Bytes and seconds."""

    header_bytes: int = 16_384
    header_seconds: float = 10.0
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 60.0
    idle_seconds: float = 180.0
    """Between requests; nodes ask about once a minute."""
    write_seconds: float = 60.0
    """For a peer that doesn't take its answer."""
    pipelined: int = 32
    connections: int = 20_000
    buffered_bytes: int = 256 << 20
    """Of all bodies that are on their way in."""


class Intake:
    """What all peers of a server share. `buffered`: bytes of bodies that are on their way in."""

    __slots__ = ("body_limit", "buffered", "limits")

    def __init__(self, limits: Limits, body_limit: Callable[[bytes], int]) -> None:
        self.limits = limits
        self.body_limit = body_limit
        self.buffered = 0


class _Refused(Exception):
    """Raised inside the parser's callbacks: answer this, then close."""

    def __init__(self, response: Response) -> None:
        self.response = response


class Incoming:
    """Feed it; then look at what it says.

    `queue`: whole requests, in the order in which they came.
    `refused`: the answer to what cannot be served; nothing is heard after it.
    `seconds`: what the peer has for what it began to send just now; None: it began nothing.
    `waits`: it sends its body when it is told to continue.
    `offer`: a request for another protocol, whole, and what came behind it. Unless somebody takes
    it, call `pass_over`.
    """

    __slots__ = (
        "_between",
        "_body",
        "_body_limit",
        "_body_size",
        "_completed",
        "_head",
        "_header_bytes",
        "_in_headers",
        "_intake",
        "_parser",
        "_path",
        "deaf",
        "offer",
        "queue",
        "refused",
        "seconds",
        "waits",
    )

    def __init__(self, intake: Intake) -> None:
        self.queue: deque[Waiting] = deque()
        self.refused: Response | None = None
        self.seconds: float | None = None
        self.waits = False
        self.offer = b""
        self.deaf = False
        self._intake = intake
        self._parser = httptools.HttpRequestParser(self)
        self._between = True
        self._in_headers = False
        self._completed = 0
        self._header_bytes = 0
        self._head = b""
        self._body: list[bytes] = []
        self._body_size = 0

    def feed(self, data: bytes) -> None:
        self.seconds = None
        self.waits = False
        if self.deaf or self.refused is not None:
            return
        most = self._intake.limits.header_bytes
        if self._between and len(data) > most and data.find(_END_OF_HEADERS, 0, most) < 0:
            self.refused = replies.HEADERS_TOO_LARGE
        else:
            self._parse(data)

    def drop(self) -> None:
        """What came of a body is not wanted any more."""
        self._intake.buffered -= self._body_size
        self._body_size = 0
        self._body = []

    def pass_over(self) -> None:
        """What follows may speak another protocol and is not heard, a body included."""
        self.offer = b""
        self.deaf = True
        if self.queue and self.queue[-1][0][0] != b"GET":
            self.queue.pop()
            self.refused = replies.NOT_IMPLEMENTED

    def _parse(self, data: bytes) -> None:
        completed = self._completed
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.offer = self._head + data
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Refused):
                raise
            self.refused = error.__context__.response
        except httptools.HttpParserError:
            self.refused = replies.BAD_REQUEST
        else:
            if not self._between:
                self._watch_rest(data, others=completed != self._completed)

    def _watch_rest(self, data: bytes, *, others: bool) -> None:
        """The rest of a request is still to come. `others`: requests before it were in `data`.

        Headers are looked at here only, and not one by one: most requests come in one piece.
        """
        if self._in_headers:
            self._head += data
            self._header_bytes += 0 if others else len(data)
            if self._header_bytes > self._intake.limits.header_bytes:
                self.refused = replies.HEADERS_TOO_LARGE
        elif not self._body_size and _EXPECTS in (self._head + data).lower():
            self._head = b""
            self.waits = True

    # -- httptools --

    def on_message_begin(self) -> None:
        limits = self._intake.limits
        self._between = False
        self._in_headers = True
        self._path = self._head = b""
        self._body = []
        self._header_bytes = 0
        if len(self.queue) >= limits.pipelined:
            raise _Refused(replies.UNAVAILABLE)
        self.seconds = limits.header_seconds

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._body_limit = self._intake.body_limit(self._path)
        self.seconds = self._intake.limits.body_seconds

    def on_body(self, body: bytes) -> None:
        intake = self._intake
        self._body_size += len(body)
        intake.buffered += len(body)
        if self._body_size > self._body_limit:
            raise _Refused(replies.TOO_LARGE)
        if intake.buffered > intake.limits.buffered_bytes:
            raise _Refused(replies.UNAVAILABLE)
        self._body.append(body)

    def on_message_complete(self) -> None:
        chunks = self._body
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        parser = self._parser
        request = parser.get_method(), self._path, body
        self.queue.append((request, parser.should_keep_alive()))
        self._between = True
        self._completed += 1
        self.drop()
