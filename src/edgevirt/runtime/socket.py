"""The Store between processes: each kind has one owner, which serves it on a Unix socket.

One SocketStore per process. What it owns it keeps and serves (owning, serving, journal, persist);
what it reads it holds as a replica (subscribing). Kinds that nobody touches cost nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edgevirt.runtime.clock import Clock, RealClock
from edgevirt.runtime.owning import Kept, Owned, Persistent
from edgevirt.runtime.persist import Directory
from edgevirt.runtime.resource import Event, Kind, Resource
from edgevirt.runtime.serving import Server
from edgevirt.runtime.store import Denied, Expired
from edgevirt.runtime.subscribing import Subscription
from edgevirt.runtime.table import Table

T = TypeVar("T")

_LOG = logging.getLogger("edgevirt.store")


class SocketStore:
    """`await open()` (or `async with`) before use.

    directory    the sockets, locks and journals of all services; gone with the node's run.
                 Meant for a tmpfs: kinds that carry secrets have their journal here too (mode 600).
    name         this service's.
    owns, reads  the kinds that it serves, and subscribes to.
    persist_dir  `<persist_dir>/<Kind>/`: the files of persistent kinds; needed only to own such.
    uid_names    which service each user is. Whoever else connects is refused, root too.
    owners       by kind name, the service that must serve it; a kind not named here may be served
                 by anyone who made the socket.
    held         owned kinds of which readers are told InStep only after `release`, once per run.

    Values of every owned kind survive a restart of the process: the owner finds what it had said.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        owns: Iterable[Kind[Any]],
        reads: Iterable[Kind[Any]],
        *,
        uid_names: Mapping[int, str],
        persist_dir: Path | None = None,
        owners: Mapping[str, str] | None = None,
        held: Iterable[Kind[Any]] = (),
        clock: Clock | None = None,
        log: logging.Logger = _LOG,
    ) -> None:
        self._directory = directory
        self._name = name
        self._persist_dir = persist_dir
        self._uid_names = dict(uid_names)
        self._owners = dict(owners or {})
        self._clock = clock or RealClock()
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="persist")
        self._owned: dict[str, Owned[Any]] = {kind.name: self._make_owned(kind) for kind in owns}
        self._held = tuple(held)
        self._reads = {kind.name: kind for kind in reads if kind.name not in self._owned}
        self._subscriptions: dict[str, Subscription[Any]] = {}

    async def open(self) -> None:
        """Raises StoreError when another process owns one of the kinds."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for kind in self._held:
            self._own(kind).table.whole = self._marked(kind)
        opened: list[Owned[Any]] = []
        try:
            for owned in self._owned.values():
                await owned.open()
                opened.append(owned)
        except BaseException:
            for owned in opened:
                await owned.close()
            self._thread.shutdown()
            raise

    async def close(self) -> None:
        for subscription in self._subscriptions.values():
            await subscription.close()
        for owned in self._owned.values():
            await owned.close()
        self._thread.shutdown()

    async def __aenter__(self) -> SocketStore:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def get(self, kind: Kind[T], key: str) -> Resource[T] | None:
        """Of a kind that is read: waits until the replica has been in step once."""
        return (await self._present(kind)).get(key)

    async def list(self, kind: Kind[T]) -> Mapping[str, Resource[T]]:
        return dict(await self._present(kind))

    async def put(
        self, kind: Kind[T], key: str, value: T, *, expect: int | None = None
    ) -> Resource[T]:
        return await self._own(kind).put(key, value, expect)

    async def delete(self, kind: Kind[T], key: str, *, expect: int | None = None) -> bool:
        return await self._own(kind).delete(key, expect)

    def watch(self, kind: Kind[T], *, since: int | None = None) -> AsyncIterator[Event[T]]:
        if kind.name in self._owned:
            table: Table[T] = self._owned[kind.name].table
        else:
            table = self._subscribe(kind).table
        if since is not None:
            raise Expired(f"cannot watch {kind.name} since {since}: no history is kept")
        return table.watch()

    async def release(self, kind: Kind[Any]) -> None:
        """See `held` and store.Holding."""
        table = self._own(kind).table
        if not table.whole:
            self._mark(kind).touch(mode=0o600)
            table.in_step()

    def _marked(self, kind: Kind[Any]) -> bool:
        """A process of this service released `kind` before, in this run."""
        try:
            return self._mark(kind).stat().st_uid == os.geteuid()
        except FileNotFoundError:
            return False

    async def _present(self, kind: Kind[T]) -> Mapping[str, Resource[T]]:
        if kind.name in self._owned:
            return self._owned[kind.name].table.present
        subscription = self._subscribe(kind)
        await subscription.ready()
        return subscription.table.present

    def _own(self, kind: Kind[T]) -> Owned[T]:
        try:
            return self._owned[kind.name]
        except KeyError:
            raise Denied(f"cannot write {kind.name}: {self._name} does not own it") from None

    def _subscribe(self, kind: Kind[T]) -> Subscription[T]:
        subscription = self._subscriptions.get(kind.name)
        if subscription is not None:
            return subscription
        if kind.name not in self._reads:
            raise Denied(f"cannot read {kind.name}: {self._name} did not declare it")
        subscription = Subscription(
            kind, self._directory, self._clock, self._log, owner_uid=self._owner_uid(kind)
        )
        self._subscriptions[kind.name] = subscription
        subscription.start()
        return subscription

    def _owner_uid(self, kind: Kind[Any]) -> int | None:
        if kind.name not in self._owners:
            return None
        owner = self._owners[kind.name]
        uids = [uid for uid, name in self._uid_names.items() if name == owner]
        if not uids:
            raise Denied(f"cannot read {kind.name}: its owner {owner} has no user")
        return uids[0]

    def _mark(self, kind: Kind[Any]) -> Path:
        return self._directory / f"{kind.name}.whole"

    def _make_owned(self, kind: Kind[T]) -> Owned[T]:
        table = Table(kind)
        server = Server(table, self._directory, self._name, self._uid_names, self._log)
        if not kind.persistent:
            return Kept(table, server, self._directory / f"{kind.name}.values", self._log)
        if self._persist_dir is None:
            raise ValueError(f"{kind.name} is persistent: persist_dir is needed")
        files = Directory(self._persist_dir / kind.name, kind, self._log)
        return Persistent(table, server, files, self._thread)
