"""The Store on SQL: SQLite on one machine; the same schema and statements suit PostgreSQL.

One thread runs all SQL. Requests that wait together are one transaction (group commit); their
callers, and the watchers of this process, hear of it after the commit only. The last changes are
kept, so that a watcher goes on where it was, also across a restart.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import chain
from types import TracebackType
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from edgevirt.runtime.resource import Event, Gone, InStep, Kind, Put, Resource
from edgevirt.runtime.store import StoreError
from edgevirt.runtime.table import Audience
from edgevirt.runtime.transaction import Told, Transaction, open_engine
from edgevirt.runtime.watching import Watch

T = TypeVar("T")
U = TypeVar("U")

HISTORY = 10_000

TOGETHER = 256
"""Requests in one transaction, at most."""


class _Request(msgspec.Struct, Generic[T], frozen=True):
    """What to do in the transaction; then, in the loop, whom to tell how it went."""

    run: Callable[[Transaction], T]
    done: Callable[[T], None]
    failed: Callable[[Exception], None]


_Answer = Callable[[], None]
_Batch = list[_Request[Any]]
_Answers = list[_Answer]


class SqlStore:
    """`await open()` (or `async with`) before use. One process at a time writes a database.

    url      SQLAlchemy's, e.g. `sqlite:////var/lib/edgevirt/fleet.db`.
    history  so many changes, of all kinds together, are kept for `watch(since=…)`.
    """

    def __init__(self, url: str, *, history: int = HISTORY) -> None:
        self._url = url
        self._history = history
        self._audiences: dict[str, Audience[Any]] = {}
        self._requests: queue.SimpleQueue[_Request[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Raises StoreError when the database cannot be opened."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="sql", daemon=True)
        self._thread.start()
        await opened

    async def close(self) -> None:
        """After all requests so far are answered."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._requests.put(None)
            await asyncio.to_thread(thread.join)
        for audience in self._audiences.values():
            audience.close()

    async def __aenter__(self) -> SqlStore:
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
        return await self._ask(lambda work: work.get(kind, key))

    async def list(self, kind: Kind[T]) -> Mapping[str, Resource[T]]:
        return await self._ask(lambda work: work.all(kind))

    async def put(
        self, kind: Kind[T], key: str, value: T, *, expect: int | None = None
    ) -> Resource[T]:
        return await self._ask(lambda work: work.put(kind, key, value, expect))

    async def delete(self, kind: Kind[T], key: str, *, expect: int | None = None) -> bool:
        return await self._ask(lambda work: work.delete(kind, key, expect))

    def watch(self, kind: Kind[T], *, since: int | None = None) -> AsyncIterator[Event[T]]:
        watch: Watch[T] = Watch()

        def read(work: Transaction) -> Iterable[Event[T]]:
            first = work.snapshot(kind) if since is None else work.after(kind, since)
            return chain(first, (InStep(work.version),))

        def start(first: Iterable[Event[T]]) -> None:
            self._audience(kind.name).join(watch, first)

        self._submit(_Request(read, start, watch.fail))
        return watch

    def _audience(self, kind: str) -> Audience[Any]:
        if kind not in self._audiences:
            self._audiences[kind] = Audience()
        return self._audiences[kind]

    async def _ask(self, run: Callable[[Transaction], U]) -> U:
        answer: asyncio.Future[U] = asyncio.get_running_loop().create_future()

        def done(result: U) -> None:
            if not answer.done():
                answer.set_result(result)

        def failed(error: Exception) -> None:
            if not answer.done():
                answer.set_exception(error)

        self._submit(_Request(run, done, failed))
        return await answer

    def _submit(self, request: _Request[Any]) -> None:
        if self._thread is None:
            raise StoreError("cannot use the store: it is not open")
        self._requests.put(request)

    # -- in the thread --

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            engine = open_engine(self._url)
        except SQLAlchemyError as error:
            failure = StoreError(f"cannot open the database: {error}")
            self._loop.call_soon_threadsafe(opened.set_exception, failure)
            return
        self._loop.call_soon_threadsafe(opened.set_result, None)
        with engine.connect() as connection:
            while self._serve(connection):
                pass
        engine.dispose()

    def _serve(self, connection: sa.Connection) -> bool:
        """One batch. False when there will be no more. Holds on to no request afterwards."""
        batch, more = self._next_batch()
        if batch:
            self._loop.call_soon_threadsafe(_call_all, self._commit(connection, batch))
        return more

    def _next_batch(self) -> tuple[_Batch, bool]:
        """What waits by now; and whether there will be more."""
        batch: _Batch = []
        request = self._requests.get()
        while request is not None:
            batch.append(request)
            if len(batch) == TOGETHER or self._requests.empty():
                return batch, True
            request = self._requests.get()
        return batch, False

    def _commit(self, connection: sa.Connection, batch: _Batch) -> _Answers:
        """All in one transaction; if the database refuses that, each in its own."""
        try:
            with connection.begin():
                work = Transaction(connection)
                answers = [self._answer(work, request) for request in batch]
                work.finish(self._history)
        except Exception as error:  # noqa: BLE001 - a thread that died would leave all waiting
            if len(batch) > 1:
                return [a for request in batch for a in self._commit(connection, [request])]
            failure = StoreError(f"cannot use the database: {error}")
            failed = batch[0].failed
            return [lambda: failed(failure)]
        return answers

    def _answer(self, work: Transaction, request: _Request[Any]) -> _Answer:
        """Runs `request`; returns what tells of it, to be called after the commit."""
        try:
            result = request.run(work)
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001 - what the caller asked for fails at the caller
            failure = error
            return lambda: request.failed(failure)
        told = work.take_told()
        return lambda: self._tell(told, request, result)

    # -- in the loop, in the order of the commits --

    def _tell(self, told: Iterable[Told], request: _Request[Any], result: Any) -> None:
        for event, new in told:
            if isinstance(event, Put):
                self._audience(event.resource.kind.name).put(event.resource, new=new)
            elif isinstance(event, Gone):
                self._audience(event.resource.kind.name).gone(event.resource)
        request.done(result)


def _call_all(answers: _Answers) -> None:
    for answer in answers:
        answer()
