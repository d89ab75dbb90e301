"""A persistent kind while its disk is slow: what is in the table is what is on the disk."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from edgevirt.runtime import InStep, Kind
from edgevirt.runtime.owning import Persistent
from edgevirt.runtime.persist import Directory
from edgevirt.runtime.serving import Server
from edgevirt.runtime.table import Table

KIND = Kind("Number", int, persistent=True)
LOG = logging.getLogger("test")


class SlowDisk:
    """Its writes stop before they are renamed into their place, until it is `let_go`."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.slow = False

    def step(self, name: str) -> None:
        if self.slow and name == "rename":
            self.reached.set()
            assert self.let_go.wait(30)


@asynccontextmanager
async def opened(path: Path, disk: SlowDisk) -> AsyncIterator[Persistent[int]]:
    table = Table(KIND)
    server = Server(table, path, "owner", {os.getuid(): "owner"}, LOG)
    with ThreadPoolExecutor(1) as thread:
        owned = Persistent(
            table, server, Directory(path / "kept", KIND, LOG, step=disk.step), thread
        )
        await owned.open()
        disk.slow = True
        try:
            yield owned
        finally:
            disk.let_go.set()
            await owned.close()


def on_disk(path: Path) -> dict[str, int]:
    kept = Directory(path / "kept", KIND, LOG).load()
    return {key: value for key, (_, value) in kept.values.items()}


async def reached(disk: SlowDisk) -> None:
    assert await asyncio.to_thread(disk.reached.wait, 30)


async def test_a_value_is_seen_by_nobody_before_it_is_durable(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with opened(tmp_path, disk) as owned:
        watch = owned.table.watch()
        assert isinstance(await anext(watch), InStep)
        write = asyncio.create_task(owned.put("a", 1, None))
        await reached(disk)
        assert owned.table.present == {}
        assert watch.waiting() == 0
        disk.let_go.set()
        assert (await write).value == 1
        assert watch.waiting() == 1


async def test_a_writer_that_is_cancelled_leaves_its_write_to_its_end(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with opened(tmp_path, disk) as owned:
        write = asyncio.create_task(owned.put("a", 1, None))
        await reached(disk)
        write.cancel()
        await asyncio.wait([write])
        disk.let_go.set()
        assert (await owned.put("b", 2, None)).version > 0
        present = {key: item.value for key, item in owned.table.present.items()}
        assert present == {"a": 1, "b": 2}
    assert on_disk(tmp_path) == present


async def test_closing_waits_for_the_writes_under_way(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with opened(tmp_path, disk) as owned:
        write = asyncio.create_task(owned.put("a", 1, None))
        await reached(disk)
    assert (await write).value == 1
    assert on_disk(tmp_path) == {"a": 1}


async def test_a_slow_disk_does_not_stop_the_loop(tmp_path: Path) -> None:
    disk = SlowDisk()
    async with opened(tmp_path, disk) as owned:
        writes = [asyncio.create_task(owned.put(str(n), n, None)) for n in range(5)]
        await reached(disk)
        assert not any(write.done() for write in writes)
        disk.let_go.set()
        versions = [resource.version for resource in await asyncio.gather(*writes)]
        assert versions == sorted(versions)
