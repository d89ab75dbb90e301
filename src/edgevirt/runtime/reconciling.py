"""Runs a Reconciler: one worker per key, the latest spec wins, failures back off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import chain
from logging import Logger
from typing import Any

from edgevirt.runtime.access import View
from edgevirt.runtime.backoff import Backoff
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.controller import Reconciler, Refuse, Report, Retry
from edgevirt.runtime.planning import PATIENCE
from edgevirt.runtime.replica import Replica
from edgevirt.runtime.resource import Kind
from edgevirt.runtime.store import Store, release

SAME_MOMENT = 1.0
"""Seconds: two times that are no further apart need not both be told."""


class ReconcilerLoop:
    def __init__(
        self,
        reconciler: Reconciler[Any, Any],
        store: Store,
        clock: Clock,
        log: Logger,
        backoff: Backoff,
        concurrency: int,
    ) -> None:
        self._reconciler = reconciler
        self._store = store
        self._clock = clock
        self._log = log
        self._backoff = backoff
        self._slots = asyncio.Semaphore(concurrency)
        named = {kind.name: kind for kind in (reconciler.spec, *reconciler.reads)}
        named.pop(reconciler.status.name, None)
        self._replica = Replica(store, named.values())
        self._specs = self._replica.tables[reconciler.spec.name]
        keys_too: tuple[Kind[Any], ...] = getattr(reconciler, "keys_too", ())
        self._keys_too = [self._replica.tables[kind.name] for kind in keys_too]
        self._statuses: dict[str, Any] = {}
        self._workers: dict[str, _Worker] = {}
        self._whole = asyncio.Event()
        self._started = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            for kind in self._replica.kinds:
                group.create_task(self._replica.follow(kind, self._changed))
            group.create_task(self._complain())
            await self._start()

    async def _start(self) -> None:
        present = await self._store.list(self._reconciler.status)
        self._statuses.update({key: item.value for key, item in present.items()})
        await release(self._store, [self._reconciler.status])
        leftovers = await self._insist("existing", self._reconciler.existing)
        await self._whole.wait()
        self._started = True
        for key in sorted({*self._specs, *self._statuses, *leftovers, *chain(*self._keys_too)}):
            self._worker(key)

    async def _insist(
        self, what: str, ask: Callable[[], Awaitable[Iterable[str]]]
    ) -> Iterable[str]:
        failures = 0
        while True:
            try:
                return await ask()
            except Exception as failure:  # noqa: BLE001 - here a controller's failure ends
                failures += 1
                seconds = self._backoff.delay(failures)
                if isinstance(failure, Retry):
                    self._log.info("%s: %s: %s", self._reconciler.name, what, failure)
                else:
                    self._log.exception("bug in reconciler %s: %s", self._reconciler.name, what)
                await self._clock.sleep(seconds)

    async def _complain(self) -> None:
        await self._clock.sleep(PATIENCE)
        if not self._replica.whole:
            waits = ", ".join(self._replica.missing)
            self._log.warning("%s waits for its inputs: %s", self._reconciler.name, waits)

    def _changed(self, kind: Kind[Any], key: str) -> None:
        if self._replica.whole:
            self._whole.set()
        if not self._started:
            return
        if kind.name == self._reconciler.spec.name:
            self._worker(key).spec_changed()
            return
        for worker in self._workers.values():
            worker.inputs_changed()
        if any(table is self._replica.tables[kind.name] for table in self._keys_too):
            self._worker(key)

    def _worker(self, key: str) -> _Worker:
        worker = self._workers.get(key)
        if worker is None:
            worker = self._workers[key] = _Worker()
            self._group.create_task(self._live(key, worker))
        return worker

    async def _live(self, key: str, worker: _Worker) -> None:
        """The life of one key: ends when its spec and its thing are gone."""
        name = self._reconciler.name
        while True:
            await self._slots.acquire()
            delay: float | None = None
            refused = False
            worker.begin()
            try:
                status = await self._reconcile(key)
                worker.failures = 0
                if status is None and key not in self._specs:
                    del self._workers[key]
                    return
                delay = self._reconciler.recheck
            except Refuse as reason:
                self._log.warning("%s: %s: refused: %s", name, key, reason)
                refused = True
            except Retry as reason:
                worker.failures += 1
                delay = reason.after
                if delay is None:
                    delay = self._backoff.delay(worker.failures)
                if worker.is_news(str(reason), self._clock.monotonic() + delay):
                    self._log.info("%s: %s: %s; again in %.1f s", name, key, reason, delay)
            except Exception:  # noqa: BLE001 - the engine is where a bug of a controller ends
                worker.failures += 1
                delay = self._backoff.delay(worker.failures)
                self._log.exception("bug in %s: %s; again in %.1f s", name, key, delay)
            finally:
                self._slots.release()
            await worker.rest(self._clock, delay, refused=refused)

    async def _reconcile(self, key: str) -> Any:
        """One call, with the spec of this moment; its status is published."""
        spec = self._specs.get(key)
        tables = {**self._replica.tables, self._reconciler.status.name: self._statuses}
        view = View(tables, now=self._clock.now(), monotonic=self._clock.monotonic())
        status = await self._reconciler.reconcile(key, spec, view, self._reporter(key))
        if status is not None:
            await self._publish(key, status)
        elif spec is None:
            await self._store.delete(self._reconciler.status, key)
            self._statuses.pop(key, None)
        return status

    def _reporter(self, key: str) -> Report[Any]:
        async def report(status: Any) -> None:
            await self._publish(key, status)

        return report

    async def _publish(self, key: str, status: Any) -> None:
        if key not in self._statuses or self._statuses[key] != status:
            await self._store.put(self._reconciler.status, key, status)
            self._statuses[key] = status


class _Worker:
    """What wakes one key's worker."""

    def __init__(self) -> None:
        self.failures = 0
        self._event = asyncio.Event()
        self._spec = False
        self._inputs = False
        self._told = ("", 0.0)

    def begin(self) -> None:
        self._spec = self._inputs = False

    def spec_changed(self) -> None:
        self._spec = True
        self.failures = 0
        self._event.set()

    def inputs_changed(self) -> None:
        self._inputs = True
        self._event.set()

    def is_news(self, why: str, again_at: float) -> bool:
        """Whether this was not just said: any change of the inputs asks what waits once more."""
        told, when = self._told
        if told == why and abs(when - again_at) <= SAME_MOMENT:
            return False
        self._told = (why, again_at)
        return True

    async def rest(self, clock: Clock, seconds: float | None, *, refused: bool) -> None:
        """Until the spec changes; or, unless refused, the inputs change or `seconds` passed."""
        timer = None if seconds is None else asyncio.create_task(self._ring(clock, seconds))
        try:
            while not self._spec and (refused or not self._inputs):
                self._event.clear()
                await self._event.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _ring(self, clock: Clock, seconds: float) -> None:
        await clock.sleep(seconds)
        self.inputs_changed()
