"""Disks of layers are made when an app in a virtual machine needs one, and go with the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.model.app import VolumeUse
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import VOLUME, VOLUME_USE
from edgevirt.node.volumes.packing import RETRY
from tests.worlds.volumes import KEY, World

pytestmark = pytest.mark.root

USE = VolumeUse(apps=(AppId("a"),), packed=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "blobs").mkdir()
    return World(tmp_path)


async def packed(world: World) -> Path:
    status = await world.until(lambda v: v is not None and v.packed != "")
    assert status is not None
    return Path(status.packed)


async def test_layers_are_packed_as_soon_as_an_app_needs_it(world: World) -> None:
    await world.want()
    await world.load()
    async with world.running():
        assert (await world.made()).packed == ""
        await world.store.put(VOLUME_USE, KEY, USE)
        disk = await packed(world)
        assert disk.read_bytes()[:4] == b"hsqs"


async def test_a_disk_of_before_is_found_again(world: World) -> None:
    await world.want()
    await world.load()
    await world.store.put(VOLUME_USE, KEY, USE)
    async with world.running():
        disk = await packed(world)
        made = disk.stat().st_ino
    async with world.running():
        assert (await packed(world)).stat().st_ino == made


async def test_what_nobody_needs_any_more_goes(world: World) -> None:
    await world.want()
    await world.load()
    await world.store.put(VOLUME_USE, KEY, USE)
    async with world.running():
        disk = await packed(world)
        await world.store.put(VOLUME_USE, KEY, VolumeUse(apps=(AppId("a"),)))
        await world.until(lambda v: v is not None and v.packed == "")
        await world.until(lambda _: not disk.exists())


async def test_it_goes_with_its_volume(world: World) -> None:
    await world.want()
    await world.load()
    await world.store.put(VOLUME_USE, KEY, USE)
    async with world.running():
        disk = await packed(world)
        await world.store.delete(VOLUME_USE, KEY)
        await world.store.delete(VOLUME, KEY)
        await world.clock.settle()
        await world.clock.advance(100)
        await world.until(lambda v: v is None)
        assert not disk.exists()


async def test_a_failure_is_told_and_tried_again(world: World) -> None:
    await world.want()
    await world.load()
    layer = next(world.layers.iterdir())
    async with world.running():
        await world.made()
        layer.rename(layer.with_name("away"))
        await world.store.put(VOLUME_USE, KEY, USE)
        trouble = await world.troubled()
        assert "cannot use volume disk in a virtual machine: cannot pack" in trouble.why
        layer.with_name("away").rename(layer)
        await world.clock.advance(RETRY)
        assert (await packed(world)).exists()
