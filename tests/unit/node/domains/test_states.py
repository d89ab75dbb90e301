"""What a machine has besides its disks goes with its snapshots, and comes back with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edgevirt.host.kvm.machine_state import MachineStates
from edgevirt.model.ids import AppId, SnapshotId
from edgevirt.model.kinds import AGENT_STATUS, MACHINE_STATE, SNAPSHOT
from edgevirt.model.node import AgentState, AgentStatus
from edgevirt.model.snapshot import MachineState, Snapshot
from edgevirt.node.domains.states import StateReconciler
from edgevirt.runtime import VirtualClock, engine
from edgevirt.runtime.memory import MemoryStore

APP = AppId("a0000000-0000-4000-8000-000000000001")
ONE = SnapshotId("d0000000-0000-4000-8000-000000000001")


class World:
    def __init__(self, directory: Path) -> None:
        self.kept = directory / "states"
        self.variables = directory / "firmware" / f"{APP}.fd"
        self.variables.parent.mkdir()
        self.clock, self.store = VirtualClock(), MemoryStore()
        states = MachineStates(self.kept, directory / "firmware", directory / "tpms")
        states.begin()
        self.controller = StateReconciler(states)

    async def wants(self, **fields: Any) -> None:
        fields = {"begun": 1.0, "machine": True, **fields}
        await self.store.put(SNAPSHOT, ONE, Snapshot(id=ONE, app=APP, **fields))

    async def tells(self, good: Callable[[MachineState], bool]) -> MachineState:
        """The first word that is good."""
        found: MachineState | None = None
        for _ in range(10_000):
            await self.clock.settle()
            item = await self.store.get(MACHINE_STATE, ONE)
            found = None if item is None else item.value
            if found is not None and good(found):
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"the state stayed {found}")

    async def is_kept(self) -> MachineState:
        return await self.tells(lambda told: told.kept)

    async def config(self, known: bool) -> None:
        told = AgentStatus(state=AgentState.ONLINE, since=0, config_from="x" if known else "")
        await self.store.put(AGENT_STATUS, "node", told)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.variables.write_text("then")
    await made.config(known=True)
    task = asyncio.create_task(engine.run(made.store, made.clock, [made.controller]))
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_is_kept_when_the_app_is_stopped_and_not_before(world: World) -> None:
    await world.wants()
    told = await world.tells(lambda told: True)
    assert not told.kept
    await world.wants(take_state=True)
    await world.is_kept()
    assert (world.kept / ONE / "vars.fd").read_text() == "then"


async def test_it_comes_back_once_for_each_order(world: World) -> None:
    await world.wants(take_state=True)
    await world.is_kept()
    world.variables.write_text("later")
    await world.wants(taken=True, restore=1)
    await world.clock.settle()
    assert world.variables.read_text() == "later", "its machine may still run"
    await world.wants(taken=True, restore=1, commit=True)
    await world.tells(lambda told: told.restored == 1)
    assert world.variables.read_text() == "then"
    world.variables.write_text("after")
    await world.wants(taken=True, restore=1, commit=True, copies=("again",))
    await world.clock.settle()
    assert world.variables.read_text() == "after"


async def test_a_snapshot_from_before_such_states_were_kept_can_be_gone_back_to(
    world: World,
) -> None:
    await world.wants(taken=True, restore=1, commit=True)
    await world.tells(lambda told: told.restored == 1)
    assert world.variables.read_text() == "then"


async def test_one_that_cannot_be_kept_says_why(world: World) -> None:
    await world.wants()
    await world.tells(lambda told: True)
    world.kept.rmdir()
    world.kept.write_text("in the way")
    await world.wants(take_state=True)
    told = await world.tells(lambda told: told.trouble is not None)
    assert told.trouble is not None
    assert "cannot keep the state" in told.trouble.why


async def test_it_goes_with_its_snapshot_and_never_because_nothing_is_known(world: World) -> None:
    await world.wants(take_state=True)
    await world.is_kept()
    await world.config(known=False)
    await world.store.delete(SNAPSHOT, ONE)
    await world.clock.settle()
    await world.is_kept()
    await world.config(known=True)
    for _ in range(10_000):
        await world.clock.settle()
        if await world.store.get(MACHINE_STATE, ONE) is None:
            break
        await asyncio.sleep(0.005)
    assert list(world.kept.iterdir()) == []
