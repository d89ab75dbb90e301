"""Law 3: what `put` or `delete` returned from survives kill -9, at whatever moment it comes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.conformance import store_writer
from tests.conformance.store_drivers import DRIVERS, LASTING, Thing
from tests.conformance.store_writer import DELETED, KEYS

KILLS = 8


def write_and_kill(driver: str, directory: Path, first: int, chance: random.Random) -> int:
    """Lets a writer go on from `first`; the last number that it acknowledged before its death."""
    command = [sys.executable, store_writer.__file__, driver, str(directory), str(first), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(chance.randrange(1, 60))]
        time.sleep(chance.random() * 0.003)  # the moment of the kill; nothing waits for it
        process.kill()
        rest, _ = process.communicate()
    said += rest.rpartition(b"\n")[0].splitlines()
    return int(said[-1])


def is_possible(key: int, value: Thing | None, acknowledged: int) -> bool:
    """What was acknowledged last for `key` is there; or what was under way after that."""
    numbers = [n for n in range(acknowledged + 2) if n % KEYS == key]
    allowed = [n for n in numbers if n <= acknowledged][-1:]
    allowed += [n for n in numbers if n > acknowledged]
    for number in allowed:
        expected = None if number % DELETED == 0 else number
        if expected == (None if value is None else value.number):
            return True
    return not allowed and value is None


@pytest.mark.parametrize("driver", LASTING)
async def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(
    driver: str, tmp_path: Path
) -> None:
    chance = random.Random(driver)
    first, newest = 0, 0
    for _ in range(KILLS):
        acknowledged = write_and_kill(driver, tmp_path, first, chance)
        async with AsyncExitStack() as stack:
            arena = await DRIVERS[driver](tmp_path, stack)
            listed = await arena.owner.list(arena.kind)
            for key in range(KEYS):
                found = listed.get(str(key))
                value = None if found is None else found.value
                assert is_possible(key, value, acknowledged), (key, value, acknowledged)
                assert value is None or value.data == bytes(value.number % 5000)
            probe = await arena.owner.put(arena.kind, "probe", Thing(acknowledged))
            assert probe.version > max(newest, *(r.version for r in listed.values()), 0)
            newest = probe.version
        first = acknowledged + 1
    assert first > KILLS
