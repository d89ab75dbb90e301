"""Small controllers and a running engine, for the engine's tests. Time is virtual."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edgevirt.runtime import (
    Again,
    Inputs,
    Kind,
    Output,
    Report,
    Store,
    VirtualClock,
)
from edgevirt.runtime.engine import Controller, run


class Value(msgspec.Struct, frozen=True):
    number: int
    text: str = ""


SPEC = Kind("Spec", Value)
STATUS = Kind("Status", Value)
SIDE = Kind("Side", Value)
OUT = Kind("Out", Value)
FOREIGN = Kind("Foreign", Value)

Plan = Callable[[Inputs], Iterable[Output | Again]]


@dataclass
class FunctionPlanner:
    """Plans what its function says; counts."""

    function: Plan
    reads: tuple[Kind[Any], ...] = (SPEC,)
    owns: tuple[Kind[Any], ...] = (OUT,)
    name: str = "planner"
    plans: int = 0

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        self.plans += 1
        return self.function(inputs)


def doubled(inputs: Inputs) -> Iterable[Output | Again]:
    for key, value in inputs.all(SPEC).items():
        yield Output(OUT, key, Value(2 * value.number))


Call = Callable[[str, Value | None, Inputs, Report[Value]], Awaitable[Value | None]]


async def mirror(
    key: str, spec: Value | None, inputs: Inputs, report: Report[Value]
) -> Value | None:
    """Status = spec."""
    return spec


@dataclass
class FunctionReconciler:
    """Calls its function; notes each call as (when, key, number or None)."""

    clock: VirtualClock
    function: Call = mirror
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = None
    leftovers: Iterable[str] = ()
    name: str = "reconciler"
    spec: Kind[Any] = SPEC
    status: Kind[Any] = STATUS
    calls: list[tuple[float, str, int | None]] = field(default_factory=list)

    async def reconcile(
        self, key: str, spec: Value | None, inputs: Inputs, report: Report[Any]
    ) -> Value | None:
        number = None if spec is None else spec.number
        self.calls.append((self.clock.monotonic() - START, key, number))
        return await self.function(key, spec, inputs, report)

    async def existing(self) -> Iterable[str]:
        return self.leftovers

    def of(self, key: str) -> list[int | None]:
        return [number for _, called, number in self.calls if called == key]

    @property
    def times(self) -> list[float]:
        return [when for when, _, _ in self.calls]


START = 1_700_000_000.0


@asynccontextmanager
async def running(
    store: Store, clock: VirtualClock, *controllers: Controller, **options: Any
) -> AsyncIterator[None]:
    """The engine at work, without jitter; it must not have ended by itself."""
    log = logging.getLogger("edgevirt.engine")
    engine = asyncio.create_task(
        run(store, clock, controllers, log=log, jitter=lambda: 0.0, **options)
    )
    await clock.settle()
    try:
        yield
        assert not engine.done(), engine.exception()
    finally:
        engine.cancel()
        await asyncio.wait([engine])


async def present(store: Store, kind: Kind[Value]) -> dict[str, int]:
    return {key: item.value.number for key, item in (await store.list(kind)).items()}
