"""Undeclared access raises, whatever way it is tried."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from edgevirt.runtime import Kind, Put, Store, Undeclared, release
from edgevirt.runtime.access import View, guard
from edgevirt.runtime.memory import MemoryStore

READ, OWNED, OTHER = Kind("Read", int), Kind("Owned", int), Kind("Other", int)


async def guarded() -> Store:
    store = MemoryStore()
    for kind in (READ, OWNED, OTHER):
        await store.put(kind, "a", 1)
    return guard(store, reads=[READ], owns=[OWNED])


FORBIDDEN: list[Callable[[Store], Awaitable[object]]] = [
    lambda store: store.get(OTHER, "a"),
    lambda store: store.list(OTHER),
    lambda store: store.put(OTHER, "a", 2),
    lambda store: store.delete(OTHER, "a"),
    lambda store: store.put(READ, "a", 2),
    lambda store: store.delete(READ, "a"),
    lambda store: release(store, [READ]),
]


@pytest.mark.parametrize("access", FORBIDDEN)
async def test_undeclared_access_raises(access: Callable[[Store], Awaitable[object]]) -> None:
    store = await guarded()
    with pytest.raises(Undeclared, match="not declared"):
        await access(store)


async def test_an_undeclared_watch_raises_at_once() -> None:
    store = await guarded()
    with pytest.raises(Undeclared):
        store.watch(OTHER)


async def test_declared_access_passes() -> None:
    store = await guarded()
    for kind in (READ, OWNED):
        found = await store.get(kind, "a")
        assert found is not None
        assert dict(await store.list(kind)) == {"a": found}
        assert await anext(store.watch(kind)) == Put(found)
    await store.put(OWNED, "a", 2)
    assert await store.delete(OWNED, "a")
    await release(store, [OWNED])
    await store.close()


def test_a_view_shows_declared_tables_alone() -> None:
    view = View({"Read": {"a": 1}}, now=5.0, monotonic=6.0)
    assert view.get(READ, "a") == 1
    assert view.get(READ, "b") is None
    assert view.all(READ) == {"a": 1}
    with pytest.raises(Undeclared, match="cannot read Other"):
        view.get(OTHER, "a")
    with pytest.raises(Undeclared):
        view.all(OTHER)


def test_a_views_tables_cannot_be_changed_through_it() -> None:
    table = {"a": 1}
    everything = View({"Read": table}, now=0.0, monotonic=0.0).all(READ)
    table["b"] = 2
    assert everything == {"a": 1}
    with pytest.raises(TypeError):
        everything["c"] = 3  # type: ignore[index]
