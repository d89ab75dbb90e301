"""An app on a whole node under a whole fleet: it outlives everything that watches over it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from edgevirt.image.oci import Pusher, make_image, pack_layer
from edgevirt.model.content import ImageConfig
from edgevirt.node.services import ROWS, Row
from tests.device_client import Onboarding, private_pem
from tests.docker_registry import DockerRegistry, docker_registry
from tests.fleet_process import FleetProcess
from tests.host_node import Node, eventually, running

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(300)]

SERIAL = "e2e-node-1"
PORT = 8085
SCRIPT = """#!/bin/sh
trap 'echo bye >>/data/ends; exit 0' TERM
date +%s%N >>/data/starts
httpd -p 80 -h /data
while :; do sleep 1 & wait $!; done
"""


class NamedFleet(FleetProcess):
    """A fleet that nodes call by a name of its own."""

    def _command(self, verb: str, *more: str) -> list[str]:
        named = ("--san", "controller.test") if verb in {"init", "run"} else ()
        return super()._command(verb, *more, *named)


@dataclass
class World:
    fleet: NamedFleet
    registry: DockerRegistry
    directory: Path

    @property
    def ports(self) -> list[int]:
        return [self.fleet.nodes, int(self.registry.host.rpartition(":")[2])]

    def node(self) -> contextlib.AbstractContextManager[Node]:
        return running(self.directory, serial=SERIAL, forwards=self.ports)

    def state(self) -> str:
        found: str = self.fleet.status("AppInstance", "shop").get("state", "")
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    (directory / "fleet").mkdir()
    fleet = NamedFleet(directory / "fleet")
    fleet.start()
    try:
        with docker_registry(directory / "registry") as registry:
            asyncio.run(_push(directory / "image", registry.host))
            made = World(fleet, registry, directory)
            _configure(made)
            yield made
    finally:
        fleet.stop()


async def _push(where: Path, registry: str) -> None:
    root = where / "root"
    for folder in ("bin", "data", "tmp", "proc", "sys", "dev", "etc"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "sleep", "date", "httpd", "echo"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "bin/shop").write_text(SCRIPT)
    (root / "bin/shop").chmod(0o755)
    config = ImageConfig(entrypoint=("/bin/shop",), env=("PATH=/bin",))
    pusher = Pusher(registry)
    try:
        await pusher.push(make_image([pack_layer(root, where / "layer.tgz")], config), "shop:1.0")
    finally:
        await pusher.close()


def _configure(world: World) -> None:
    fleet, config = world.fleet, world.directory / "config"
    onboarding = Onboarding()
    fleet.admit(onboarding, SERIAL)
    config.mkdir()
    (config / "server").write_text(f"controller.test:{fleet.nodes}\n")
    shutil.copy(fleet.root_file, config / "root-certificate.pem")
    (config / "onboard.cert.pem").write_bytes(onboarding.pem)
    (config / "onboard.key.pem").write_bytes(private_pem(onboarding.key))
    (config / "soft_serial").write_text(SERIAL)
    properties = {"timer.config.interval": "5"}
    fleet.create("EdgeNode", "n1", {"serial": SERIAL, "properties": properties})
    port = world.ports[1]
    fleet.create(
        "Datastore", "reg", {"type": "OCIRegistry", "url": f"docker://registry.local:{port}"}
    )
    fleet.create("Image", "shop", {"datastoreRefs": [{"name": "reg"}], "reference": "shop:1.0"})
    network = {"type": "Local", "port": "uplink", "subnet": "10.9.0.0/24"}
    fleet.create("NetworkInstance", "apps", network)
    interface = {
        "name": "eth0",
        "networkInstance": "apps",
        "ports": [{"nodePort": PORT, "appPort": 80}],
    }
    fleet.create(
        "App",
        "shop",
        {
            "image": "shop",
            "interfaces": [interface],
            "volumes": [{"name": "data", "size": "16Mi", "mountPath": "/data"}],
        },
    )
    fleet.create("AppInstance", "shop", {"app": "shop", "edgeNode": "n1"})


def address_of(node: Node) -> str:
    command = ["nsenter", "-t", str(node.init), "-n", "ip", "-4", "-o", "addr", "show", "eth0"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return said.split()[3].partition("/")[0]


def fetch(node: Node, name: str) -> str:
    """A file of the app's data, from its web server; empty while it does not answer."""
    with contextlib.suppress(httpx.HTTPError):
        url = f"http://{address_of(node)}:{PORT}/{name}"
        answer = httpx.get(url, timeout=2, trust_env=False)
        if answer.status_code == 200:
            return answer.text
    return ""


def starts(node: Node) -> int:
    return len(fetch(node, "starts").splitlines())


@pytest.fixture(scope="module")
def node(world: World) -> Iterator[Node]:
    with world.node() as started:
        eventually(lambda: starts(started) == 1, "the app answers", 90)
        yield started


def test_the_fleet_sees_the_app_run(world: World, node: Node) -> None:
    eventually(lambda: world.state() == "RUNNING", "the fleet says RUNNING")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_app_goes_on_while_any_service_is_killed_and_comes_back(
    world: World, node: Node, row: Row
) -> None:
    before = node.pid(row.name)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: node.pid(row.name) not in (0, before), f"{row.name} is back")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert starts(node) == 1
        time.sleep(0.2)


def test_an_app_goes_on_while_the_supervisor_dies_with_all_services(
    world: World, node: Node
) -> None:
    before = node.supervisor
    os.kill(before, signal.SIGKILL)
    eventually(lambda: node.supervisor not in (0, before) and node.up(), "all are back")
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert starts(node) == 1
        time.sleep(0.2)
    eventually(lambda: world.state() == "RUNNING", "the fleet says RUNNING")


def test_what_the_operator_changes_still_arrives_after_all_that(world: World, node: Node) -> None:
    world.fleet.patch("AppInstance", "shop", {"restartCounter": 1})
    eventually(lambda: starts(node) == 2, "the app was restarted", 60)
    assert fetch(node, "ends") == "bye\n"


def test_a_reboot_restarts_the_node_and_its_apps_and_the_fleet_knows_why(
    world: World, node: Node
) -> None:
    init = node.init
    world.fleet.patch("EdgeNode", "n1", {"rebootCounter": 1})
    eventually(lambda: node.init not in (0, init) and node.up(), "the node is back", 90)
    eventually(lambda: starts(node) == 3, "the app is back", 60)
    assert fetch(node, "ends") == "bye\nbye\n"


# -- each with a node of its own run, on the same disk -------------------------------------------


def test_without_its_fleet_a_node_starts_its_apps_from_what_it_has(
    world: World, node: Node
) -> None:
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(60) == 0
    world.fleet.stop()
    try:
        with world.node() as second:
            eventually(lambda: starts(second) == 4, "the app answers", 60)
    finally:
        world.fleet.start()
