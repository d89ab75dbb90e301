"""The SQL store's own ways: group commit, failures of the database, size."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import make_url
from sqlalchemy.schema import CreateTable

from edgevirt.runtime import Conflict, InStep, Kind, Put, StoreError
from edgevirt.runtime.sql import SqlStore
from edgevirt.runtime.transaction import metadata


class Value(msgspec.Struct, frozen=True):
    number: int
    names: dict[str, int] = {}


KIND = Kind("Value", Value)


def url(path: Path) -> str:
    return f"sqlite:///{path / 'store.db'}"


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path / "store.db")) as connection, connection:
        yield connection


async def test_one_write_that_the_database_refuses_does_not_fail_the_others(
    tmp_path: Path,
) -> None:
    async with SqlStore(url(tmp_path)) as store:
        with database(tmp_path) as connection:
            connection.execute(
                "CREATE TRIGGER no BEFORE INSERT ON resource WHEN new.key = 'bad'"
                " BEGIN SELECT RAISE(ABORT, 'the disk says no'); END"
            )
        watch = store.watch(KIND)
        assert isinstance(await anext(watch), InStep)
        keys = ["a", "b", "bad", "c", "d"]
        writes = [store.put(KIND, key, Value(1)) for key in keys]
        results = await asyncio.gather(*writes, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        assert len(failures) == 1
        assert isinstance(failures[0], StoreError)
        assert "the disk says no" in str(failures[0])
        told = [await anext(watch) for _ in range(4)]
        assert [e.resource.key for e in told if isinstance(e, Put)] == ["a", "b", "c", "d"]
        assert set(await store.list(KIND)) == {"a", "b", "c", "d"}


async def test_a_conflict_in_a_group_is_its_writers_alone(tmp_path: Path) -> None:
    async with SqlStore(url(tmp_path)) as store:
        writes = [
            store.put(KIND, str(number), Value(number), expect=None if number % 2 else 99)
            for number in range(10)
        ]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [isinstance(result, Conflict) for result in results] == [True, False] * 5
        assert set(await store.list(KIND)) == {"1", "3", "5", "7", "9"}


async def test_writes_that_wait_together_are_committed_together(tmp_path: Path) -> None:
    async with SqlStore(url(tmp_path)) as store:
        await store.put(KIND, "first", Value(0))
        wal = (tmp_path / "store.db-wal").stat().st_size
        await store.put(KIND, "one", Value(1))
        one = (tmp_path / "store.db-wal").stat().st_size - wal
        wal += one
        await asyncio.gather(*(store.put(KIND, str(n), Value(n)) for n in range(200)))
        many = (tmp_path / "store.db-wal").stat().st_size - wal
        assert one > 0
        assert many < 40 * one, "each commit writes its pages to the log: 200 would write 200 times"


async def test_requests_see_what_was_asked_before_them_also_in_one_group(tmp_path: Path) -> None:
    async with SqlStore(url(tmp_path)) as store:
        async with asyncio.TaskGroup() as group:
            group.create_task(store.put(KIND, "a", Value(1)))
            first = group.create_task(store.list(KIND))
            group.create_task(store.put(KIND, "a", Value(2)))
            second = group.create_task(store.list(KIND))
            gone = group.create_task(store.delete(KIND, "a"))
            third = group.create_task(store.list(KIND))
            one = group.create_task(store.get(KIND, "a"))
        assert [task.result()["a"].value.number for task in (first, second)] == [1, 2]
        assert gone.result() is True
        assert third.result() == {}
        assert one.result() is None


async def test_what_is_equal_though_encoded_otherwise_changes_nothing(tmp_path: Path) -> None:
    async with SqlStore(url(tmp_path)) as store:
        first = await store.put(KIND, "a", Value(1, {"x": 1, "y": 2}))
        again = await store.put(KIND, "a", Value(1, {"y": 2, "x": 1}))
        assert again.version == first.version


async def test_a_hundred_thousand_keys_are_listed(tmp_path: Path) -> None:
    async with SqlStore(url(tmp_path)) as store:
        with database(tmp_path) as connection:
            connection.executemany(
                "INSERT INTO resource (kind, key, version, value) VALUES (?, ?, ?, ?)",
                [("Value", str(n), n + 1, KIND.encode(Value(n))) for n in range(100_000)],
            )
        began = time.monotonic()
        listed = await store.list(KIND)
        assert len(listed) == 100_000
        assert listed["99999"].value == Value(99_999)
        assert time.monotonic() - began < 30


async def test_history_is_bounded(tmp_path: Path) -> None:
    async with SqlStore(url(tmp_path), history=50) as store:
        for number in range(200):
            await store.put(KIND, "a", Value(number))
    with database(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM change").fetchone() == (50,)


async def test_a_database_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open the database"):
        await SqlStore(f"sqlite:///{tmp_path}/no/such/store.db").open()
    (tmp_path / "store.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError, match="cannot open the database"):
        await SqlStore(url(tmp_path)).open()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path))
    with pytest.raises(StoreError, match="not open"):
        await store.get(KIND, "a")
    await store.open()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await store.put(KIND, "a", Value(1))


async def test_requests_under_way_are_answered_before_it_closes(tmp_path: Path) -> None:
    store = SqlStore(url(tmp_path))
    await store.open()
    writes = [asyncio.create_task(store.put(KIND, str(n), Value(n))) for n in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert len([await write for write in writes]) == 100


async def test_what_is_acknowledged_is_in_the_write_ahead_log_and_synced(tmp_path: Path) -> None:
    async with SqlStore(url(tmp_path)) as store:
        await store.put(KIND, "a", Value(1))
        with database(tmp_path) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("SELECT key FROM resource").fetchall() == [("a",)]


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_the_schema_suits_both_databases(name: str) -> None:
    dialect = make_url(f"{name}://").get_dialect()()
    statements = [str(CreateTable(t).compile(dialect=dialect)) for t in metadata.sorted_tables]
    assert len(statements) == 3
    assert all(statement.strip().startswith("CREATE TABLE") for statement in statements)
