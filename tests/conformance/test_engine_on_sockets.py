"""The engine between processes' stores: an owner that is away is not one that wants nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgevirt.runtime import Again, Inputs, Kind, Output, RealClock, Report, Store
from edgevirt.runtime.engine import run
from edgevirt.runtime.socket import SocketStore
from tests.conformance.store_drivers import KEPT, PATIENCE, THING, US, Thing

STATUS = Kind("Status", Thing)


class Copier:
    """Kept = Thing: what it owns is on disk, and deleting it would lose something."""

    name = "copier"
    reads: tuple[Kind[Any], ...] = (THING,)
    owns: tuple[Kind[Any], ...] = (KEPT,)

    def __init__(self) -> None:
        self.plans: list[dict[str, Thing]] = []

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        self.plans.append(dict(inputs.all(THING)))
        for key, value in inputs.all(THING).items():
            yield Output(KEPT, key, value)


class Remover:
    """Notes what it is told to remove."""

    name = "remover"
    spec: Kind[Any] = THING
    status: Kind[Any] = STATUS
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = None

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.removed: list[str] = []

    async def reconcile(
        self, key: str, spec: Thing | None, inputs: Inputs, report: Report[Any]
    ) -> Thing | None:
        if spec is None:
            self.removed.append(key)
            return None
        self.made.add(key)
        return spec

    async def existing(self) -> Iterable[str]:
        return ["on the machine"]


def config_store(path: Path, **options: Any) -> SocketStore:
    return SocketStore(path / "run", "config", [THING], (), uid_names=US, **options)


@asynccontextmanager
async def service(path: Path, *controllers: Any) -> AsyncIterator[Store]:
    store = SocketStore(
        path / "run", "service", [KEPT, STATUS], [THING],
        uid_names=US, persist_dir=path / "persist",
    )  # fmt: skip
    log = logging.getLogger("edgevirt.engine")
    async with store:
        engine = asyncio.create_task(run(store, RealClock(), controllers, log=log))
        try:
            yield store
            assert not engine.done(), engine.exception()
        finally:
            engine.cancel()
            await asyncio.wait([engine])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.001)


async def kept(store: Store) -> set[str]:
    return set(await store.list(KEPT))


async def until_kept(store: Store, key: str) -> None:
    """Said by the store itself: a value is on disk a moment before it is listed."""
    async with asyncio.timeout(PATIENCE):
        while key not in await kept(store):
            await asyncio.sleep(0.001)


async def test_a_service_that_starts_before_its_config_deletes_nothing(tmp_path: Path) -> None:
    copier, remover = Copier(), Remover()
    async with config_store(tmp_path) as config:
        await config.put(THING, "precious", Thing(1))
        async with service(tmp_path, Copier()) as store:
            await until(lambda: (tmp_path / "persist/Kept/precious").exists())
    async with service(tmp_path, copier, remover) as store:
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert copier.plans == []
        assert remover.removed == []
        assert await kept(store) == {"precious"}
        async with config_store(tmp_path):
            await until(lambda: bool(copier.plans) and bool(remover.removed))
        assert await kept(store) == {"precious"}
        assert remover.removed == ["on the machine"]


async def test_a_config_that_restarts_changes_nothing(tmp_path: Path) -> None:
    copier, remover = Copier(), Remover()
    async with service(tmp_path, copier, remover) as store:
        async with config_store(tmp_path) as config:
            for number in range(20):
                await config.put(THING, str(number), Thing(number))
            await until(lambda: len(remover.made) == 20)
        plans = len(copier.plans)
        async with config_store(tmp_path) as config:
            await config.put(THING, "new", Thing(21))
            await until(lambda: "new" in remover.made)
            await until_kept(store, "new")
        assert all(len(plan) >= 20 for plan in copier.plans[plans:])
        assert remover.removed == ["on the machine"]
        assert len(await kept(store)) == 21


@pytest.mark.parametrize("crashed_half_way", [False, True])
async def test_a_held_config_is_acted_on_only_when_it_is_whole(
    tmp_path: Path, crashed_half_way: bool
) -> None:
    """A cold start: the disk knows two things, the config's owner has said one of them so far."""
    copier, remover = Copier(), Remover()
    async with config_store(tmp_path) as config, service(tmp_path, Copier()) as store:
        await config.put(THING, "a", Thing(1))
        await config.put(THING, "b", Thing(2))
        await until(lambda: (tmp_path / "persist/Kept/b").exists())
    for left in (tmp_path / "run").iterdir():
        left.unlink()
    async with service(tmp_path, copier, remover) as store:
        if crashed_half_way:
            async with config_store(tmp_path, held=[THING]) as config:
                await config.put(THING, "a", Thing(1))
        async with config_store(tmp_path, held=[THING]) as config:
            await config.put(THING, "a", Thing(1))
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert copier.plans == []
            assert remover.removed == []
            await config.put(THING, "b", Thing(2))
            await config.release(THING)
            await until(lambda: remover.made == {"a", "b"} and bool(copier.plans))
            assert await kept(store) == {"a", "b"}
            assert remover.removed == ["on the machine"]


async def test_a_planners_kinds_are_released_by_its_first_plan(tmp_path: Path) -> None:
    remover = Remover()
    maker = SocketStore(
        tmp_path / "run", "maker", [THING], [KEPT], uid_names=US, held=[THING]
    )  # fmt: skip

    class Maker(Copier):
        reads: tuple[Kind[Any], ...] = (KEPT,)
        owns: tuple[Kind[Any], ...] = (THING,)

        def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
            for key in inputs.all(KEPT):
                yield Output(THING, key, Thing(1))

    async with service(tmp_path, remover) as store, maker:
        await store.put(KEPT, "wanted", Thing(1))
        engine = asyncio.create_task(run(maker, RealClock(), [Maker()]))
        try:
            await until(lambda: remover.made == {"wanted"})
            await until(lambda: remover.removed == ["on the machine"])
        finally:
            engine.cancel()
            await asyncio.wait([engine])
