"""The one interface to resources. Three drivers (memory, socket, SQL) keep the same laws.

The laws, which the conformance suite checks on every driver:

1. A watch begins with the present values, then says InStep, then every key's changes in order.
   A slow watcher may miss values in between of one key, never the last one.
2. `put` of a value equal to the present one changes nothing and wakes nobody.
3. What `put` or `delete` of a persistent kind returned from survives kill -9.
4. Versions grow; `expect` makes a write conditional on the version that the caller saw.
5. A kind has one owner. Others may only read it, and only if the kind admits them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from edgevirt.runtime.resource import Event, Kind, Resource

T = TypeVar("T")

ABSENT = 0
"""For `expect`: the key must not exist yet."""


class StoreError(Exception):
    """«cannot X: why». Base of what a store refuses."""


class Conflict(StoreError):
    """The key has another version than the caller expected. Read again, decide again."""


class Denied(StoreError):
    """This process does not own the kind, or may not read it. A bug or an attack; not retried."""


class Expired(StoreError):
    """The version to watch from is no longer kept. List again, and watch from there."""


class Store(Protocol):
    async def get(self, kind: Kind[T], key: str) -> Resource[T] | None: ...

    async def list(self, kind: Kind[T]) -> Mapping[str, Resource[T]]: ...

    async def put(
        self, kind: Kind[T], key: str, value: T, *, expect: int | None = None
    ) -> Resource[T]:
        """Raises Conflict (see `expect`; ABSENT for «must be new») or Denied."""
        ...

    async def delete(self, kind: Kind[T], key: str, *, expect: int | None = None) -> bool:
        """False when there was nothing to delete. Raises Conflict or Denied."""
        ...

    def watch(self, kind: Kind[T], *, since: int | None = None) -> AsyncIterator[Event[T]]:
        """Endless. With `since`, what changed after that version instead of a snapshot.

        Only drivers that keep a history serve `since`; the others, and a version too old,
        raise Expired.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Holding(Protocol):
    """A store that can keep others waiting for the InStep of a kind until its owner has loaded it.

    Else, after a cold start, a reader would take an owner that has not spoken yet for one that
    wants nothing, and delete.
    """

    async def release(self, kind: Kind[Any]) -> None:
        """What there is of `kind` is whole now: readers may be told InStep. Again: no effect."""
        ...


async def release(store: Store, kinds: Iterable[Kind[Any]]) -> None:
    """Releases `kinds` where the driver holds them (see Holding); elsewhere does nothing.

    The engine calls it: for a planner's kinds after the first plan, for a reconciler's status at
    once. An owner that publishes by hand calls it when its first round is written.
    """
    if isinstance(store, Holding):
        for kind in kinds:
            await store.release(kind)
