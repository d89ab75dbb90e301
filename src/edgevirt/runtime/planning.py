"""Runs a Planner: watches, plans when all is in step, writes only the differences."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from logging import Logger
from typing import Any, TypeVar

import msgspec

from edgevirt.runtime.access import View
from edgevirt.runtime.backoff import Backoff
from edgevirt.runtime.clock import Clock
from edgevirt.runtime.controller import Again, Planner, Undeclared
from edgevirt.runtime.replica import Replica
from edgevirt.runtime.resource import Kind
from edgevirt.runtime.store import Store, release

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds until a planner that still waits for its inputs says so in the log."""


class Plan(msgspec.Struct, frozen=True):
    """What a planner wants: values by kind name and key, in its order; and when to plan again."""

    outputs: Mapping[str, Mapping[str, Any]]
    again: float | None

    def all(self, kind: Kind[T]) -> Mapping[str, T]:
        return self.outputs[kind.name]

    def get(self, kind: Kind[T], key: str) -> T | None:
        return self.outputs[kind.name].get(key)


def plan_once(
    planner: Planner,
    inputs: Mapping[Kind[Any], Mapping[str, Any]],
    *,
    now: float = 0.0,
    monotonic: float = 0.0,
) -> Plan:
    """One plan from these values, without a store: for tests and simulations.

    `inputs` may hold the planner's own outputs of before; a declared kind not named is empty.
    Raises what the planner raises, Undeclared when `inputs` or an output is not declared.
    """
    tables: dict[str, Mapping[str, Any]] = {
        kind.name: {} for kind in (*planner.reads, *planner.owns)
    }
    for kind, values in inputs.items():
        if kind.name not in tables:
            raise Undeclared(f"cannot give {kind.name} to {planner.name}: not declared")
        tables[kind.name] = values
    return make_plan(planner, View(tables, now=now, monotonic=monotonic))


def make_plan(planner: Planner, view: View) -> Plan:
    outputs: dict[str, dict[str, Any]] = {kind.name: {} for kind in planner.owns}
    again: float | None = None
    for item in planner.plan(view):
        if isinstance(item, Again):
            again = item.seconds if again is None else min(again, item.seconds)
            continue
        table = outputs.get(item.kind.name)
        if table is None:
            raise Undeclared(f"cannot write {item.kind.name}: {planner.name} does not own it")
        if item.key in table and table[item.key] != item.value:
            raise ValueError(f"{planner.name} wants two values of {item.kind.name} {item.key!r}")
        table[item.key] = item.value
    return Plan(outputs, again)


class PlannerLoop:
    def __init__(
        self, planner: Planner, store: Store, clock: Clock, log: Logger, backoff: Backoff
    ) -> None:
        self._planner = planner
        self._store = store
        self._clock = clock
        self._log = log
        self._backoff = backoff
        owned = {kind.name for kind in planner.owns}
        self._replica = Replica(store, (k for k in planner.reads if k.name not in owned))
        self._kinds = {kind.name: kind for kind in planner.owns}
        self._outputs: dict[str, dict[str, Any]] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for kind in self._replica.kinds:
                group.create_task(self._replica.follow(kind, lambda kind, key: self._wake.set()))
            group.create_task(self._complain())
            try:
                await self._plan_forever()
            finally:
                self._plan_in(None)

    async def _complain(self) -> None:
        await self._clock.sleep(PATIENCE)
        if not self._replica.whole:
            waits = ", ".join(self._replica.missing)
            self._log.warning("%s waits for its inputs: %s", self._planner.name, waits)

    async def _plan_forever(self) -> None:
        await self._load_outputs()
        self._wake.set()
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._replica.whole:
                continue
            try:
                again = await self._plan()
                failures = 0
            except Exception:  # noqa: BLE001 - the engine is where a bug of a controller ends
                failures += 1
                again = self._backoff.delay(failures)
                self._log.exception("bug in planner %s; again in %.1f s", self._planner.name, again)
            self._plan_in(again)

    async def _load_outputs(self) -> None:
        """Before anything is planned: what is there may be kept or deleted, never overlooked."""
        for kind in self._planner.owns:
            present = await self._store.list(kind)
            self._outputs[kind.name] = {key: item.value for key, item in present.items()}

    async def _plan(self) -> float | None:
        view = View(
            {**self._replica.tables, **self._outputs},
            now=self._clock.now(),
            monotonic=self._clock.monotonic(),
        )
        plan = make_plan(self._planner, view)
        for name, wanted in plan.outputs.items():
            await self._write(self._kinds[name], wanted)
        await release(self._store, self._planner.owns)
        return plan.again

    async def _write(self, kind: Kind[Any], wanted: Mapping[str, Any]) -> None:
        present = self._outputs[kind.name]
        for key, value in wanted.items():
            if key not in present or present[key] != value:
                await self._store.put(kind, key, value)
                present[key] = value
        for key in [key for key in present if key not in wanted]:
            await self._store.delete(kind, key)
            del present[key]

    def _plan_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.create_task(self._wake_after(seconds))

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake.set()
