"""A node's OS is changed by changing its object: what it gets, and what people see of the way."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from edgevirt.client.resources import Object
from edgevirt.wire.messages import info
from tests.parts.device_client import DeviceClient, device_info
from tests.parts.fleet_process import FleetProcess, until

pytestmark = pytest.mark.timeout(120)

OLD, NEW = "edgevirt-1-kvm-amd64", "edgevirt-2-kvm-amd64"


@pytest.fixture
def image(fleet: FleetProcess) -> str:
    name = f"os-{uuid.uuid4().hex[:8]}"
    fleet.create("Datastore", name, {"type": "HTTPS", "url": "https://files.example"})
    fleet.create(
        "OSImage",
        name,
        {
            "version": NEW,
            "datastoreRefs": [{"name": name}],
            "reference": "os/root.img",
            "sha256": "a" * 64,
            "maxSize": "150Mi",
        },
    )
    return name


def software(version: str = OLD, state: str = "active") -> info.ZInfoMsg:
    message = device_info(time.time())
    del message.dinfo.swList[:]
    message.dinfo.swList.add(
        partitionLabel="IMGA", partitionState=state, shortVersion=version, activated=True
    )
    return message


def beside(state: str, **more: Any) -> info.ZInfoMsg:
    message = software()
    message.dinfo.swList.add(
        partitionLabel="IMGB",
        partitionState=state,
        shortVersion=NEW,
        **more,
    )
    return message


def step_of(fleet: FleetProcess, name: str) -> Callable[[], str]:
    return lambda: fleet.status("EdgeNode", name).get("os", {}).get("step", "")


def reasons(fleet: FleetProcess, name: str) -> set[str]:
    listed = fleet.client.list(
        fleet.client.type_of("events"), "default", fields=f"involvedObject.name={name}"
    )
    return {event["reason"] for event in listed["items"]}


async def report(
    node: DeviceClient, fleet: FleetProcess, message: info.ZInfoMsg, step: str
) -> None:
    assert await node.report(message) == 201
    found = step_of(fleet, node.device.serial)
    until(f"the step {step}", lambda: found() == step)


async def test_a_version_reaches_the_node_and_its_way_is_seen(
    fleet: FleetProcess, node: DeviceClient, image: str
) -> None:
    name = node.device.serial
    assert await node.report(software()) == 201
    fleet.patch("EdgeNode", name, {"os": {"image": image}})
    received = await node.poll_until_new()
    (tree,) = received.contentInfo
    assert (tree.URL, tree.sha256) == ("os/root.img", "a" * 64)
    assert received.baseos.content_tree_uuid == tree.uuid
    assert (received.baseos.base_os_version, received.baseos.activate) == (NEW, True)
    until("it waits", lambda: step_of(fleet, name)() == "Waiting")
    downloading = beside("unused", userStatus=info.DOWNLOADING, downloadProgress=40)
    await report(node, fleet, downloading, "Downloading")
    assert fleet.status("EdgeNode", name)["os"]["phase"] == "downloading 40%"
    await report(node, fleet, beside("updating", userStatus=info.UPDATING), "Rebooting")
    await report(node, fleet, software(NEW, "inprogress"), "Testing")
    assert fleet.condition("EdgeNode", name, "OSUpdated")["reason"] == "Testing"
    await report(node, fleet, software(NEW), "Updated")
    assert fleet.condition("EdgeNode", name, "OSUpdated")["status"] == "True"
    told = {"UpdateStarted", "Testing", "Committed"}
    until("the events", lambda: told <= reasons(fleet, name))


async def test_a_version_that_failed_says_why_and_a_counter_lets_it_try_again(
    fleet: FleetProcess, node: DeviceClient, image: str
) -> None:
    name = node.device.serial
    fleet.patch("EdgeNode", name, {"os": {"image": image}})
    await node.poll_until_new()
    failed = beside("inprogress", userStatus=info.FALLBACK)
    failed.dinfo.swList[1].swErr.description = "kernel panic"
    failed.dinfo.last_boot_reason = info.BOOT_REASON_FALLBACK
    failed.dinfo.lastRebootReason = "kernel panic in the other slot"
    failed.dinfo.lastRebootStack = "Kernel panic - not syncing"
    await report(node, fleet, failed, "FellBack")
    status: Object = fleet.status("EdgeNode", name)
    assert f"cannot run {NEW}: kernel panic; fell back to {OLD}" in status["os"]["phase"]
    assert status["bootReason"] == "Fallback"
    assert status["rebootStack"] == "Kernel panic - not syncing"
    until("the event", lambda: "FellBack" in reasons(fleet, name))
    fleet.patch("EdgeNode", name, {"os": {"retryCounter": 1}})
    assert (await node.poll_until_new()).baseos.retry_update.counter == 1
