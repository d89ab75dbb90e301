"""The reader's side of a kind: a replica of the owner's table, kept up over its socket.

While the owner is away the replica keeps what it knew and nobody is told anything. When the owner
is back, watchers are told what differs, then what vanished meanwhile, then InStep.
"""

from __future__ import annotations

import asyncio
from logging import Logger
from pathlib import Path
from typing import Generic, TypeVar, cast

import msgspec

from edgevirt.runtime import frames
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.frames import BadFrame, Frame, Splitter
from edgevirt.runtime.resource import Kind, Resource
from edgevirt.runtime.serving import peer_uid, reachable
from edgevirt.runtime.store import Denied
from edgevirt.runtime.table import Table

T = TypeVar("T")

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 1.0
"""Seconds between two tries to connect. It is a local socket: a try costs microseconds."""


class Subscription(Generic[T]):
    """`owner_uid`: the user that must serve the kind; None: whoever made the socket is believed."""

    def __init__(
        self, kind: Kind[T], directory: Path, clock: Clock, log: Logger, *, owner_uid: int | None
    ) -> None:
        self.table: Table[T] = Table(kind, whole=False)
        self._path = directory / f"{kind.name}.sock"
        self._clock = clock
        self._log = log
        self._owner_uid = owner_uid
        self._first = asyncio.Event()
        self._denied: Denied | None = None
        self._task: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Until the replica has been whole once. Raises Denied."""
        await self._first.wait()
        if self._denied is not None:
            raise self._denied

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._keep_up(), name=f"read {self.table.kind.name}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.table.audience.close()

    async def _keep_up(self) -> None:
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while self._denied is None:
            try:
                with reachable(self._path) as address:
                    transport, link = await loop.create_unix_connection(
                        lambda: _Link(self), address
                    )
            except OSError:
                await self._clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            try:
                if await link.lost:
                    pause = FIRST_PAUSE
            finally:
                transport.abort()
            await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def check_owner(self, uid: int) -> bool:
        if self._owner_uid is None or uid == self._owner_uid:
            return True
        self._log.error("%s is served by user %d, not its owner", self.table.kind.name, uid)
        return False

    def bad_frame(self, error: BadFrame) -> None:
        self._log.error("%s: its owner does not speak our protocol: %s", self._path, error)

    def put(self, frame: Frame) -> None:
        kind = self.table.kind
        present = self.table.present.get(frame.key)
        try:
            value = kind.decode(frame.value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._log.error("%s %r: not a value of this kind: %s", kind.name, frame.key, error)
            return
        resource = Resource(kind, frame.key, value, frame.version)
        if present is not None and present.value == value:
            self.table.present[frame.key] = resource
        else:
            self.table.set(resource)

    def gone(self, key: str, version: int) -> None:
        if key in self.table.present:
            self.table.remove(key, version)

    def in_step(self, version: int, told: set[str] | None) -> None:
        """`told`: the keys that the owner has; None when it was in step before."""
        if told is not None:
            for key in [key for key in self.table.present if key not in told]:
                self.table.remove(key, version)
        self.table.version = version
        self.table.in_step()
        self._first.set()

    def deny(self, why: str) -> None:
        self._denied = Denied(f"cannot read {self.table.kind.name}: {why}")
        self.table.audience.fail(self._denied)
        self._first.set()


class _Link(Generic[T], asyncio.Protocol):
    """One connection to the owner."""

    def __init__(self, subscription: Subscription[T]) -> None:
        self.lost: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the connection ends: whether it had come in step."""
        self._subscription = subscription
        self._splitter = Splitter()
        self._told: set[str] | None = set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._subscription.check_owner(peer_uid(transport)):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._splitter.feed(data):
                self._receive(frame)
        except BadFrame as error:
            self._subscription.bad_frame(error)
            if self._transport is not None:
                self._transport.abort()

    def _receive(self, frame: Frame) -> None:
        if frame.type == frames.PUT:
            self._subscription.put(frame)
            if self._told is not None:
                self._told.add(frame.key)
        elif frame.type == frames.GONE:
            self._subscription.gone(frame.key, frame.version)
            if self._told is not None:
                self._told.discard(frame.key)
        elif frame.type == frames.IN_STEP:
            self._subscription.in_step(frame.version, self._told)
            self._told = None
        elif frame.type == frames.DENIED:
            self._subscription.deny(frame.key)
        else:
            raise BadFrame(f"type {frame.type}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(self._told is None)
