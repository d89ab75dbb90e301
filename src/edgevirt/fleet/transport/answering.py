"""From requests to answers: all that come in one turn of the event loop are answered together.

Who asks is told once, whatever the answer waits for: nothing, a commit that others wait for as
well, or work of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from edgevirt.fleet.transport import replies
from edgevirt.fleet.transport.replies import AfterCommit, Reply, Request, Response

_log: Final = logging.getLogger(__name__)

Waiting = tuple[Request, bool]
"""A request, and whether the connection is kept after it."""


class Asker(Protocol):
    """A connection; it asks one thing at a time."""

    def finish(self, keep_alive: bool, response: Response) -> None:
        """The answer that was waited for."""
        ...


class Application(Protocol):
    """What answers. Knows neither connections nor time-outs."""

    def body_limit(self, path: bytes) -> int:
        """Bytes that the body of such a request may have."""
        ...

    def handle_all(self, asked: Sequence[Request]) -> Sequence[Reply]:
        """A reply for each request of one turn of the event loop; some come later, where something
        has to be durable first.
        """
        ...


class Answering:
    """One per process and event loop."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._loop = asyncio.get_running_loop()
        self._asking: list[tuple[Asker, Waiting]] = []
        self._commits: dict[asyncio.Future[None], list[tuple[Asker, bool, Response]]] = {}

    def ask(self, asker: Asker, waiting: Waiting) -> None:
        """`asker.finish` is called later, once."""
        if not self._asking:
            self._loop.call_soon(self._turn)
        self._asking.append((asker, waiting))

    def _turn(self) -> None:
        asking, self._asking = self._asking, []
        requests = [request for _, (request, _) in asking]
        for (asker, (_, keep_alive)), reply in zip(asking, self._handle(requests), strict=True):
            if isinstance(reply, Response):
                asker.finish(keep_alive, reply)
            elif isinstance(reply, AfterCommit):
                self._expect(asker, keep_alive, reply)
            else:
                task = asyncio.ensure_future(reply)
                task.add_done_callback(partial(_on_answer, asker, keep_alive))

    def _handle(self, requests: list[Request]) -> Sequence[Reply]:
        try:
            return self._application.handle_all(requests)
        except Exception:  # noqa: BLE001  here the engine ends: a bug costs one request, no more
            if len(requests) > 1:
                return [self._handle([request])[0] for request in requests]
            method, path, _ = requests[0]
            _log.exception("cannot answer %s %s: a bug", method, path[:200])
            return [replies.FAILED]

    def _expect(self, asker: Asker, keep_alive: bool, reply: AfterCommit) -> None:
        """Many wait for the same commit; they are answered in one go."""
        waiting = self._commits.get(reply.commit)
        if waiting is None:
            waiting = self._commits[reply.commit] = []
            reply.commit.add_done_callback(self._on_commit)
        waiting.append((asker, keep_alive, reply.response))

    def _on_commit(self, commit: asyncio.Future[None]) -> None:
        failed = commit.cancelled() or commit.exception() is not None
        for asker, keep_alive, response in self._commits.pop(commit):
            asker.finish(keep_alive, replies.UNAVAILABLE if failed else response)


def _on_answer(asker: Asker, keep_alive: bool, task: asyncio.Future[Response]) -> None:
    if task.cancelled():
        asker.finish(False, replies.UNAVAILABLE)
    elif (error := task.exception()) is not None:
        _log.error("cannot answer: a bug", exc_info=error)
        asker.finish(keep_alive, replies.FAILED)
    else:
        asker.finish(keep_alive, task.result())
