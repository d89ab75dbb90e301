"""The reconciler brings the slots to what the plan says, on a whole engine with fake slots."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from edgevirt.host.disk.no_slots import NoSlots
from edgevirt.host.disk.slots import Slots
from edgevirt.host.fakes.slots import IMAGE, FakeSlots
from edgevirt.model.baseos import Install, SlotPlan, SlotsFound, SlotState
from edgevirt.model.kinds import SLOT_PLAN, SLOTS_FOUND
from edgevirt.node.baseos.slots import SlotsReconciler
from edgevirt.runtime import InStep, RealClock, engine
from edgevirt.runtime.memory import MemoryStore

VERSION = "edgevirt-2"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(IMAGE + VERSION.encode() + b"\n" + bytes(3 << 20))
    return path


def install_of(image: Path, **other: object) -> Install:
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    made = Install(label="IMGB", path=str(image), digest=digest, version=VERSION)
    return Install(**{name: getattr(made, name) for name in made.__struct_fields__} | other)


class World:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def plan(self, plan: SlotPlan) -> None:
        await self.store.put(SLOT_PLAN, "node", plan)

    async def until(self, wanted: Callable[[SlotsFound], bool]) -> SlotsFound:
        async with asyncio.timeout(10):
            async for event in self.store.watch(SLOTS_FOUND):
                if not isinstance(event, InStep):
                    found: SlotsFound = event.resource.value
                    if wanted(found):
                        return found
        raise AssertionError


@asynccontextmanager
async def world(slots: Slots) -> AsyncIterator[World]:
    store = MemoryStore()
    clock = RealClock()
    task = asyncio.create_task(
        engine.run(store, clock, [SlotsReconciler(slots, clock)], jitter=lambda: 0.0)
    )
    try:
        yield World(store)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_an_image_is_written_checked_and_then_switched_to(image: Path) -> None:
    slots = FakeSlots()
    install = install_of(image)
    async with world(slots) as here:
        await here.plan(SlotPlan(install=install))
        found = await here.until(lambda found: found.installed)
        assert found.install == install
        assert [slot.version for slot in found.slots] == ["", VERSION]
        states = (("IMGB", SlotState.UPDATING),)
        await here.plan(SlotPlan(install=install, states=states))
        await here.until(lambda found: found.slots[1].state is SlotState.UPDATING)
    assert slots.restart() == "IMGB"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digest": "0" * 64}, "does not hold what was written"),
        ({"version": "edgevirt-3"}, "the image says that it is edgevirt-2"),
        ({"path": "/nowhere"}, "No such file"),
    ],
)
async def test_what_is_not_what_it_should_be_is_told_and_never_switched_to(
    image: Path, change: dict[str, object], why: str
) -> None:
    slots = FakeSlots()
    async with world(slots) as here:
        await here.plan(SlotPlan(install=install_of(image, **change)))
        found = await here.until(lambda found: found.trouble is not None)
    assert found.trouble is not None
    assert why in found.trouble.why
    assert not found.installed
    assert slots.states()["IMGB"] is SlotState.UNUSED


async def test_a_write_that_is_no_longer_wanted_ends(image: Path) -> None:
    slots = FakeSlots()
    async with world(slots) as here:
        await here.plan(SlotPlan(install=install_of(image)))
        await here.until(lambda found: found.install is not None)
        await here.plan(SlotPlan())
        await here.until(lambda found: found.install is None)
        assert slots.states()["IMGB"] is SlotState.UNUSED


async def test_another_attempt_writes_again(image: Path) -> None:
    slots = FakeSlots()
    slots.fails = "write"
    async with world(slots) as here:
        await here.plan(SlotPlan(install=install_of(image)))
        await here.until(lambda found: found.trouble is not None)
        await here.plan(SlotPlan(install=install_of(image, attempt=1)))
        await here.until(lambda found: found.installed)


async def test_states_that_cannot_be_changed_are_tried_again() -> None:
    slots = FakeSlots()
    slots.fails = "set_states"
    async with world(slots) as here:
        await here.plan(SlotPlan(states=(("IMGB", SlotState.UPDATING),)))
        await here.until(lambda found: found.slots[1].state is SlotState.UPDATING)


async def test_a_node_in_host_mode_says_that_it_has_no_slots(image: Path) -> None:
    async with world(NoSlots("0.1.0")) as here:
        await here.plan(SlotPlan())
        found = await here.until(lambda found: bool(found.slots))
    assert [(slot.label, slot.version) for slot in found.slots] == [("IMGA", "0.1.0")]
