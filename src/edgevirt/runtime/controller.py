"""What a controller declares. The engine does the rest: watch, call, write the difference, retry.

Two shapes, and no third:

- a **Planner** is pure: from the values that it reads to the values that it owns;
- a **Reconciler** has effects: for each value of one spec kind it makes the machine match,
  and reports a status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from edgevirt.runtime.resource import Kind

T = TypeVar("T")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
U_co = TypeVar("U_co", covariant=True)


class Undeclared(Exception):
    """A controller touched a kind that it did not declare. A bug."""


class Output(msgspec.Struct, frozen=True):
    """One value that a planner wants to exist."""

    kind: Kind[Any]
    key: str
    value: Any


class Again(msgspec.Struct, frozen=True):
    """Plan again after `seconds`, even if nothing changes."""

    seconds: float


class Inputs(Protocol):
    """The values at the moment of planning. Reading an undeclared kind raises Undeclared."""

    now: float
    """Wall clock, for stamps."""

    monotonic: float
    """For deadlines."""

    def get(self, kind: Kind[T], key: str) -> T | None: ...

    def all(self, kind: Kind[T]) -> Mapping[str, T]: ...


@runtime_checkable
class Planner(Protocol):
    """`plan` yields all that should exist; what it no longer yields is deleted.

    It may read its own outputs of the time before (they count as declared).
    """

    name: str
    reads: tuple[Kind[Any], ...]
    owns: tuple[Kind[Any], ...]

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]: ...


class Retry(Exception):
    """Not now: try again, after `after` seconds or with the engine's backoff."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Refuse(Exception):
    """Never, until the spec changes. The reconciler has put the reason into its status."""


Report = Callable[[U_co], Awaitable[None]]
"""Publishes the status of the key at hand as it is right now."""


class Reconciler(Protocol[S_contra, U_co]):
    """Makes the machine match. Calls for one key never overlap; different keys run side by side.

    `reconcile` returns the status to publish. With spec None the thing must go; returning None
    then removes its status and ends the key's life. It may raise Retry or Refuse; any other
    exception is retried with backoff and logged as a bug. `recheck` seconds after a call
    (None: never) the same spec is reconciled again, to notice what changed by itself.

    A reconciler may have `keys_too`, a tuple of kinds of its `reads`: their keys are reconciled as
    well, with spec None where nothing else is wanted of them.
    """

    name: str
    spec: Kind[Any]
    status: Kind[Any]
    reads: tuple[Kind[Any], ...]
    """Kinds whose change makes every key reconcile again."""
    recheck: float | None

    async def reconcile(
        self, key: str, spec: S_contra | None, inputs: Inputs, report: Report[Any]
    ) -> U_co | None: ...

    async def existing(self) -> Iterable[str]:
        """Keys of what is there on the machine at start, so that leftovers are removed."""
        ...
