"""A node of any make meets a fleet that was restored from an old backup: by the wire alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgevirt.client.resources import Object
from tests.parts.device_client import Device, DeviceClient, Onboarding, metric
from tests.parts.fleet_process import FleetProcess, until

NEW, OLD = "sn-has-more", "sn-is-behind"


class World:
    """A fleet, and two machines of which one got a config that the fleet has forgotten."""

    def __init__(self, directory: Path) -> None:
        self.fleet = FleetProcess(directory)
        self._backup = directory / "backup"
        self._lines: dict[str, DeviceClient] = {}

    async def line(self, serial: str, *, restarted: bool = False) -> DeviceClient:
        """`restarted`: as EVE's nodes do, it has forgotten the hash of its config."""
        before = self._lines.get(serial)
        device = before.device if before else Device(serial)
        line = DeviceClient(self.fleet.nodes, self.fleet.root_file, device)
        if before is not None:
            line.node_id, line.token, line.trusted = before.node_id, before.token, before.trusted
            line.config_hash = "" if restarted else before.config_hash
            await before.close()
        self._lines[serial] = line
        return line

    async def begin(self) -> None:
        self.fleet.start()
        key = Onboarding()
        self.fleet.admit(key)
        for serial in (NEW, OLD):
            await (await self.line(serial)).come_online(key)
        self.fleet.stop()
        shutil.copytree(self.fleet.data, self._backup)
        self.fleet.start()
        self.want(NEW, "77")
        await (await self.line(NEW)).poll_until_new()

    async def restore(self, *, told: bool) -> None:
        self.fleet.stop()
        shutil.rmtree(self.fleet.data)
        shutil.copytree(self._backup, self.fleet.data)
        if told:
            self.fleet.note_restored()
        self.fleet.start()

    def want(self, serial: str, interval: str) -> None:
        self.fleet.patch("EdgeNode", serial, {"properties": {"timer.config.interval": interval}})

    def held(self, serial: str) -> Object:
        found: Object = self.fleet.status("EdgeNode", serial).get("heldConfig", {})
        return found

    async def close(self) -> None:
        for line in self._lines.values():
            await line.close()
        self.fleet.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    try:
        await world.begin()
        yield world
    finally:
        await world.close()


async def test_a_hash_that_the_fleet_cannot_have_given_holds_the_config_back(world: World) -> None:
    await world.restore(told=False)
    world.want(NEW, "33")
    line = await world.line(NEW)
    assert (await line.poll())[0] == 304
    assert world.held(NEW)["mark"] == line.config_hash
    message = metric(time.time())
    message.am.add(AppID="a-a", AppName="till")
    assert (await line.send("/id/{id}/metrics", message.SerializeToString())).status_code == 201
    assert (await line.poll())[0] == 304
    said = world.fleet.condition("EdgeNode", NEW, "ConfigApplied")["message"]
    assert "app till" in said
    number = int(line.config_hash.partition(".")[0])
    world.fleet.patch("EdgeNode", NEW, {"overwriteConfig": line.config_hash})
    received = await line.poll_until_new()
    assert received.configItems[0].value == "33"
    assert int(received.id.version) > number
    assert (await line.poll())[0] == 304
    until("it is told", lambda: not world.held(NEW))


async def test_a_node_that_forgot_is_not_given_less_before_people_agree(world: World) -> None:
    await world.restore(told=True)
    world.want(NEW, "33")
    line = await world.line(NEW, restarted=True)
    assert (await line.poll())[0] == 503, "EVE's nodes then use the config of their disk"
    assert (await line.poll())[0] == 503
    assert "has not shown yet" in world.fleet.condition("EdgeNode", NEW, "ConfigApplied")["message"]
    world.fleet.patch("EdgeNode", NEW, {"overwriteConfig": world.held(NEW)["mark"]})
    received = await line.poll_until_new()
    assert received.configItems[0].value == "33"


async def test_a_node_that_has_nothing_newer_never_notices(world: World) -> None:
    await world.restore(told=True)
    line = await world.line(OLD)
    assert (await line.poll())[0] == 304
    world.want(OLD, "33")
    assert (await line.poll_until_new()).configItems[0].value == "33"
    assert not world.held(OLD)
