"""Devices that come and go: the node notices, and a running app's status says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgevirt.host.devices.protocol import DeviceError
from edgevirt.host.fakes.devices import FakeDevices
from edgevirt.model.base import Severity, SwState
from edgevirt.model.hardware import Addresses, DomainDevice, IoType, MachineDevices, UsbDevice
from edgevirt.model.kinds import MACHINE_DEVICES
from edgevirt.node.domains.machine import tell_once
from edgevirt.runtime.memory import MemoryStore
from tests.unit.node.domains.test_reconciler import APP, Node, domain

STICK = DomainDevice(
    label="stick", type=IoType.USB_DEVICE, addresses=Addresses(usb_port="1:2")
)  # fmt: skip
PLUGGED = MachineDevices(usb=(UsbDevice(port="1:2", vendor=1, product=2, node="/dev/x"),))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def told(store: MemoryStore) -> MachineDevices | None:
    found = await store.get(MACHINE_DEVICES, "node")
    return found.value if found is not None else None


async def test_what_is_there_is_told_and_told_again_when_it_changes() -> None:
    store, devices = MemoryStore(), FakeDevices()
    await tell_once(store, devices)
    assert await told(store) == MachineDevices()
    devices.plug(PLUGGED)
    async with asyncio.timeout(30):
        await devices.await_change(1e6)
    await tell_once(store, devices)
    assert await told(store) == PLUGGED


async def test_a_look_that_fails_makes_nothing_disappear(monkeypatch: pytest.MonkeyPatch) -> None:
    store, devices = MemoryStore(), FakeDevices(PLUGGED)
    await tell_once(store, devices)

    async def fail() -> MachineDevices:
        raise DeviceError("cannot look at the machine's devices: it is on fire")

    monkeypatch.setattr(devices, "measure", fail)
    await tell_once(store, devices)
    assert await told(store) == PLUGGED


async def test_an_app_whose_stick_is_pulled_runs_on_and_says_so(node: Node) -> None:
    await node.want(domain(devices=(STICK,)))
    assert (await node.told()).trouble is None
    node.machine.missing[APP] = ("stick is not plugged in",)
    await node.store.put(MACHINE_DEVICES, "node", MachineDevices())
    await node.clock.settle()
    status = await node.told()
    assert status.state == SwState.RUNNING
    assert status.trouble is not None
    assert status.trouble.why == "cannot use all of its devices: stick is not plugged in"
    assert (status.trouble.severity, status.trouble.hint) == (Severity.WARNING, "plug it in")
    assert [line for line in node.machine.log if "create" in line] == [f"create {APP}"]
    node.machine.missing.clear()
    await node.store.put(MACHINE_DEVICES, "node", PLUGGED)
    await node.clock.settle()
    assert (await node.told()).trouble is None


async def test_an_app_without_devices_is_not_asked_for_them(node: Node) -> None:
    node.machine.missing[APP] = ("nothing",)
    await node.want(domain())
    assert (await node.told()).trouble is None
    await node.want(replace(domain(), generation=2, devices=(STICK,)))
    assert (await node.told()).state == SwState.RUNNING
