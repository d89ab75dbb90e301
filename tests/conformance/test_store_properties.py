"""Any sequence of writes, on every driver, against a plain dict; and watchers always converge."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edgevirt.runtime import Conflict, Resource
from tests.conformance.store_drivers import DRIVERS, LASTING, Arena, Follower, Thing

T = TypeVar("T")

KEYS = st.sampled_from(["a", "b", "c", "d/e", ""])
VALUES = st.builds(Thing, number=st.integers(0, 3), data=st.sampled_from([b"", bytes(3000)]))


class Machine(RuleBasedStateMachine):
    """The model is `self.model`: what each key should be."""

    driver = ""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Resource[Thing]] = {}
        self.newest = 0
        self.followers: list[Follower] = []
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        self.arena: Arena = self.run(DRIVERS[self.driver](Path(self.directory.name), self.stack))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        async def end() -> None:
            for follower in self.followers:
                await follower.stop()
            await self.stack.aclose()

        self.converge()
        self.run(end())
        self.runner.close()
        self.directory.cleanup()

    @rule(key=KEYS, value=VALUES)
    def put(self, key: str, value: Thing) -> None:
        present = self.model.get(key)
        resource = self.run(self.arena.owner.put(self.arena.kind, key, value))
        assert resource.value == value
        if present is not None and present.value == value:
            assert resource.version == present.version
        else:
            self.note(resource.version)
        self.model[key] = resource

    @rule(key=KEYS, value=VALUES, right=st.booleans())
    def put_expecting(self, key: str, value: Thing, right: bool) -> None:
        present = self.model.get(key)
        version = 0 if present is None else present.version
        write = self.arena.owner.put(
            self.arena.kind, key, value, expect=version if right else version + 1
        )
        if not right:
            with pytest.raises(Conflict):
                self.run(write)
            return
        resource = self.run(write)
        if resource.version != version:
            self.note(resource.version)
        self.model[key] = resource

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        was_there = self.model.pop(key, None) is not None
        assert self.run(self.arena.owner.delete(self.arena.kind, key)) == was_there

    @rule()
    @precondition(lambda self: len(self.followers) < 3)
    def watch(self) -> None:
        async def start() -> Follower:
            return Follower(self.arena.reader.watch(self.arena.kind))

        self.followers.append(self.run(start()))

    @rule()
    @precondition(lambda self: self.driver in LASTING)
    def restart(self) -> None:
        if self.driver == "sql":
            self.converge()
        self.run(self.arena.restart())
        if self.driver == "sql":
            self.followers.clear()

    @rule()
    def converge(self) -> None:
        values = {key: resource.value for key, resource in self.model.items()}
        listed = self.run(self.arena.owner.list(self.arena.kind))
        assert dict(listed) == self.model
        for follower in self.followers:
            self.run(follower.until(lambda f: f.values == values and f.in_step >= 1))

    def note(self, version: int) -> None:
        assert version > self.newest
        self.newest = version


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_a_dict_and_its_watchers_converge(driver: str) -> None:
    machine = type("Machine", (Machine,), {"driver": driver})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
