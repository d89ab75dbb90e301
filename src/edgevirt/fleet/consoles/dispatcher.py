"""Brings both ends of a session together: a person's websocket here, the node's there.

What they say to each other is sealed and passes through as it is, no faster than it is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from edgevirt.fleet.api import errors
from edgevirt.fleet.api.errors import ApiError
from edgevirt.fleet.api.table import Stream
from edgevirt.fleet.consoles.judging import judge
from edgevirt.fleet.consoles.sessions import Busy, Session, Sessions
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.object import ApiObject
from edgevirt.fleet.operators.roles import User
from edgevirt.model.access import AccessConfig, ConsoleKind
from edgevirt.model.ids import NodeId
from edgevirt.runtime import Clock, Store
from edgevirt.wire import access

_log: Final = logging.getLogger("edgevirt.fleet.consoles")

_TOLD_EVERY: Final = 15.0
"""Seconds between words to somebody who waits."""
_GONE: Final = "the node's end of the session is gone"

_CLOSED: Final = (WebSocketDisconnect, WebSocketDisconnected)
"""What a websocket raises whose other end is gone."""

Signer = Callable[[], ec.EllipticCurvePrivateKey]


class Dispatcher:
    """One per process. `changed` is told the node, by its key, whose grants are others now."""

    def __init__(
        self,
        store: Store,
        events: Recorder,
        signer: Signer,
        changed: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.sessions = Sessions()
        self._store = store
        self._events = events
        self._signer = signer
        self._changed = changed
        self._clock = clock
        self._tokens: dict[str, AccessConfig] = {}
        self._pairs: dict[str, _Pair] = {}

    def streams(self) -> tuple[Stream, ...]:
        return (Stream("AppInstance", "console", self.serve_person),)

    # -- what is in a node's config --

    def config_of(self, node: str, node_id: NodeId) -> AccessConfig | None:
        """The same one for as long as the grants are the same."""
        grants = self.sessions.grants_of(node)
        if not grants:
            return None
        made = self._tokens.get(node)
        if made is None:
            token = access.make_token(self._signer(), node_id, grants)
            made = AccessConfig(token=token, generation=int(self._clock.now()))
            self._tokens[node] = made
        return made

    def mark_of(self, node: str) -> bytes:
        """Changes when what `config_of` returns does."""
        grants = self.sessions.grants_of(node)
        return b"" if not grants else " ".join(grant.id for grant in grants).encode()

    def forget_tokens(self) -> None:
        """The signing key is another one."""
        self._tokens.clear()

    def note_asked(self, node: str) -> None:
        """The node takes its config; it waits for nobody who is told so."""
        for session in self.sessions.note_asked(node, self._clock.now()):
            self._pairs[session.id].asked.set()

    def close(self) -> None:
        """Ends all sessions."""
        for pair in self._pairs.values():
            pair.end()

    def _refresh(self, node: str) -> None:
        self._tokens.pop(node, None)
        self._changed(node)

    # -- a person's end --

    async def serve_person(self, socket: WebSocket, about: ApiObject, user: User) -> None:
        """Raises ApiError as long as nothing is accepted."""
        assert isinstance(about, AppInstance)
        session = await self._open(socket, about, user)
        pair = self._pairs[session.id] = _Pair(session, socket, self._clock)
        try:
            await socket.accept()
            await self._tell_events(about, session)
            self._refresh(session.node)
            await pair.serve()
        finally:
            del self._pairs[session.id]
            self.sessions.close(session)
            self._refresh(session.node)
            await self._tell_end(about, session)

    async def _open(self, socket: WebSocket, about: AppInstance, user: User) -> Session:
        query = socket.query_params
        try:
            kind = ConsoleKind(query.get("kind", ConsoleKind.SERIAL))
        except ValueError:
            raise errors.bad_request("kind must be serial or vnc") from None
        place = await judge(self._store, about, kind)
        session = Session(
            id=uuid.uuid4().hex,
            key=os.urandom(access.KEY_SIZE),
            app=place.app,
            kind=kind,
            node=place.node,
            instance=about.key,
            user=user.name,
            began=self._clock.now(),
            interval=place.interval,
        )
        try:
            before = self.sessions.open(session, take_over=query.get("takeOver") == "true")
        except Busy as busy:
            raise ApiError(409, "Busy", str(busy)) from None
        if before is not None:
            self._pairs[before.id].end()
        return session

    async def _tell_events(self, about: AppInstance, session: Session) -> None:
        message = f"{session.user} opened the {session.kind} console"
        _log.info("%s of %s (session %s)", message, about.key, session.id)
        await self._events.tell("AppInstance", about, "ConsoleOpened", message)

    async def _tell_end(self, about: AppInstance, session: Session) -> None:
        if session.paired:
            seconds = self._clock.now() - session.paired
            message = f"{session.user} had the {session.kind} console for {_duration(seconds)}"
        else:
            message = f"{session.user} left before the {session.kind} console was there"
        _log.info("%s: %s (session %s)", about.key, message, session.id)
        await self._events.tell("AppInstance", about, "ConsoleClosed", message)

    # -- a node's end --

    async def serve_node(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application behind the nodes' front door."""
        if scope["type"] != "websocket":
            return
        socket = WebSocket(scope, receive, send)
        session = self.sessions.find(socket.headers.get(access.SESSION_HEADER, ""))
        version = socket.headers.get(access.VERSION_HEADER, "")
        if scope["path"] != access.PATH or session is None:
            await _deny(socket, errors.forbidden("no such session"))
            return
        pair = self._pairs[session.id]
        if version != access.VERSION:
            session.ended = f"{_name(session.node)} serves no consoles: it speaks {version!r}"
            pair.end()
            await _deny(socket, errors.bad_request(f"{access.VERSION} is spoken here"))
            return
        session.paired = self._clock.now()
        await socket.accept()
        await pair.attach(socket)


class _Pair:
    """One session's two ends."""

    def __init__(self, session: Session, person: WebSocket, clock: Clock) -> None:
        self._session = session
        self._person = person
        self._clock = clock
        self._node: asyncio.Future[WebSocket] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()
        self._over = asyncio.Event()
        """One wants it to end, or it has."""

    def end(self) -> None:
        self._over.set()

    async def tell(self, text: str) -> None:
        with contextlib.suppress(*_CLOSED):
            await self._person.send_json({"say": text})

    async def attach(self, node: WebSocket) -> None:
        """The node's end; returns when the session is over."""
        self._node.set_result(node)
        await self._over.wait()
        with contextlib.suppress(*_CLOSED):
            await node.close()

    async def serve(self) -> None:
        """The person's end, from waiting to the end."""
        session = self._session
        why, telling = "", None
        try:
            await self._person.send_json({"key": access.write_key(session.key)})
            every = f"{session.interval:.0f} s"
            await self.tell(
                f"waiting for {_name(session.node)} to ask for its config: each {every}"
            )
            telling = asyncio.create_task(self._tell_asked())
            with contextlib.suppress(*_CLOSED):
                why = await _first(self._hold(), self._watch(), self._overheard())
        finally:
            self._over.set()
            if telling is not None:
                telling.cancel()
            with contextlib.suppress(*_CLOSED):
                if why:
                    await self._person.send_json({"end": why})
                await self._person.close()

    async def _tell_asked(self) -> None:
        await self.asked.wait()
        await self.tell(f"{_name(self._session.node)} has its config; it connects")

    async def _hold(self) -> str:
        """Waits for the node, then copies until one end is gone."""
        early = asyncio.ensure_future(self._person.receive())
        try:
            either: list[asyncio.Future[Any]] = [early, self._node]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self._node.done():
                return ""  # whoever speaks before it is open can only leave
            node = self._node.result()
            await self._person.send_json({"open": _name(self._session.node)})
            return await _first(
                self._copy(node.receive(), node, self._person, _GONE),
                self._copy(early, self._person, node),
            )
        finally:
            early.cancel()

    async def _copy(
        self, first: Awaitable[Message], source: WebSocket, target: WebSocket, gone: str = ""
    ) -> str:
        """One message at a time: the next is not read before this one is on its way."""
        with contextlib.suppress(*_CLOSED):
            message = await first
            while message["type"] != "websocket.disconnect":
                data = message.get("bytes")
                if data:
                    self._session.touched = self._clock.now()
                    await target.send_bytes(data)
                message = await source.receive()
        return gone

    async def _overheard(self) -> str:
        await self._over.wait()
        return self._session.ended

    async def _watch(self) -> str:
        """Ends it in time."""
        while True:
            deadline, why = self._session.deadline()
            left = deadline - self._clock.now()
            if left <= 0:
                return why
            await self._clock.sleep(min(left, _TOLD_EVERY))


async def _first(*works: Awaitable[str]) -> str:
    """What the first one that is done returns."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _deny(socket: WebSocket, error: ApiError) -> None:
    from edgevirt.fleet.api.presenting import status_response

    await socket.send_denial_response(status_response(error))


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
