"""The command line as people call it, before a fleet in a process of its own, and a machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevirt.client.kubeconfig import load_connection
from edgevirt.wire import logs
from edgevirt.wire.messages import info
from tests.parts.device_client import Device, DeviceClient, Onboarding, bundle, device_info, metric
from tests.parts.fleet_process import PATIENCE, FleetProcess

HELLO = Path(__file__).parents[2] / "examples" / "hello"

pytestmark = pytest.mark.e2e


class Shell:
    """Calls `edgevirt` with a kubeconfig in the environment, and nothing else."""

    def __init__(self, kubeconfig: Path) -> None:
        self.env = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": "/nonexistent"}

    async def __call__(self, *words: str, code: int = 0) -> str:
        """What it prints; beside the loop, in which the machine lives."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "edgevirt", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.env,
            timeout=PATIENCE,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr


@pytest.fixture
def edgevirt(fleet: FleetProcess) -> Shell:
    return Shell(fleet.kubeconfig)


async def test_a_machine_is_let_in_gets_an_app_and_can_be_looked_into(
    fleet: FleetProcess, newcomer: DeviceClient, edgevirt: Shell, tmp_path: Path
) -> None:
    key = Onboarding()
    fleet.admit(key, approve=False)
    assert await newcomer.register(key) == 201
    rows = (await edgevirt("get", "requests", "-o", "wide", "--no-headers")).splitlines()
    (row,) = [row.split() for row in rows if newcomer.device.serial in row]
    assert newcomer.device.cert_hash.hex() in row
    await edgevirt("approve", row[0], "--name", "hello-node")
    waited = "jsonpath={.status.edgeNode}=hello-node"
    await edgevirt("wait", f"request/{row[0]}", "--for", waited)
    await newcomer.come_online(key)
    assert await newcomer.report(device_info(time.time(), "box")) == 201
    await edgevirt("wait", "node/hello-node", "--for", "condition=Online")
    assert "hello-node" in await edgevirt("get", "nodes")
    described = await edgevirt("describe", "node", "hello-node")
    assert "hostname:" in described
    assert "SoftwareKey" in described
    assert "has not told of its hardware yet" in await edgevirt("hardware", "hello-node", code=1)
    told_hardware = info.ZInfoMsg(ztype=info.ZiHardware)
    told_hardware.atTimeStamp.seconds = int(time.time())
    told_hardware.hwinfo.inventory.serial_devices.add(devpath="/dev/ttyS1")
    assert await newcomer.report(told_hardware) == 201
    model = tmp_path / "model.yaml"
    model.write_text(await edgevirt("hardware", "hello-node", "--model", "box"))
    assert "hardwaremodel/box created" in await edgevirt("apply", "-f", str(model))

    # The example's node has a serial of its own; ours is there already.
    given = [word for path in sorted(HELLO.glob("[2-9]*.yaml")) for word in ("-f", str(path))]
    assert "appinstance/hello created" in await edgevirt("apply", *given)
    received = await newcomer.poll_until_new()
    assert [app.displayname for app in received.apps] == ["hello"]
    assert await edgevirt("diff", *given) == ""
    await edgevirt("restart", "hello")
    again = await newcomer.poll_until_new()
    assert again.apps[0].restart.counter != received.apps[0].restart.counter

    now, uid = time.time(), received.apps[0].uuidandversion.uuid
    told = bundle(["visit 1"], logs.AppHeader("hello"), now)
    assert (await newcomer.send(f"/id/{{id}}/apps/instanceid/{uid}/newlogs", told)).is_success
    assert await edgevirt("logs", "hello") == "visit 1\n"
    usage = metric(now).SerializeToString()
    assert (await newcomer.send("/id/{id}/metrics", usage)).is_success
    assert "100Mi/400Mi (25%)" in await edgevirt("top", "nodes", "hello-node")
    assert "appinstance/hello deleted" in await edgevirt("delete", "-y", *given)
    assert "node/hello-node" not in await edgevirt("get", "apps,instances")


async def test_a_watch_goes_on_while_others_write_and_fails_in_words_when_the_fleet_dies(
    tmp_path: Path,
) -> None:
    fleet = FleetProcess(tmp_path)
    fleet.start()
    edgevirt = Shell(fleet.kubeconfig)
    command = [sys.executable, "-m", "edgevirt", "get", "nodes", "-w"]
    watch = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=edgevirt.env
    )
    assert watch.stdout is not None
    fleet.create("EdgeNode", "alpha", {"serial": "s1"})
    async with asyncio.timeout(PATIENCE):
        while b"alpha" not in await watch.stdout.readline():
            pass
        fleet.kill()
        _, said = await watch.communicate()
    assert watch.returncode == 1
    assert b"cannot reach the fleet" in said
    assert b"Traceback" not in said
    assert "cannot reach the fleet" in await edgevirt("get", "nodes", code=1)


async def test_a_viewers_kubeconfig_reads_and_changes_nothing(
    fleet: FleetProcess, tmp_path: Path, edgevirt: Shell
) -> None:
    viewer = tmp_path / "viewer"
    where = ("--data", str(fleet.data), "--operators", f"127.0.0.1:{fleet.operators}")
    await edgevirt("fleet", "grant", "vic", *where, "--kubeconfig", str(viewer))
    assert viewer.stat().st_mode & 0o777 == 0o600
    assert load_connection(viewer).namespace == "default"
    as_viewer = Shell(viewer)
    await as_viewer("get", "nodes,apps")
    assert "forbidden" in await as_viewer("get", "secrets", code=1)
    assert "forbidden" in await as_viewer("apply", "-f", str(HELLO / "10-edgenode.yaml"), code=1)


async def test_an_admin_of_a_project_rules_there_alone(
    fleet: FleetProcess, tmp_path: Path, edgevirt: Shell
) -> None:
    member = tmp_path / "member"
    where = ("--data", str(fleet.data), "--operators", f"127.0.0.1:{fleet.operators}")
    project = ("--role", "admin", "--project", "berlin")
    await edgevirt("fleet", "grant", "ben", *project, *where, "--kubeconfig", str(member))
    fleet.client.create(
        fleet.client.type_of("Namespace"),
        None,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "berlin"}},
    )
    as_member = Shell(member)
    await as_member("apply", "-f", str(HELLO / "10-edgenode.yaml"))
    assert "hello-node" in await as_member("get", "nodes")
    assert "forbidden" in await as_member("get", "nodes", "-n", "default", code=1)


async def test_a_copy_of_the_data_directory_is_the_whole_fleet(tmp_path: Path) -> None:
    """What the how-to on backups promises."""
    fleet = FleetProcess(tmp_path)
    fleet.start()
    key = Onboarding()
    fleet.admit(key)
    machine = DeviceClient(fleet.nodes, fleet.root_file, Device("sn-backup"))
    await machine.come_online(key)
    told = bundle(["before the fire"], logs.NodeHeader(machine.node_id, "IMGA", "1"), time.time())
    assert (await machine.send("/id/{id}/newlogs", told)).is_success
    fleet.stop()
    await machine.close()
    shutil.copytree(fleet.data, tmp_path / "backup", copy_function=shutil.copy2)
    shutil.rmtree(fleet.data)
    shutil.copytree(tmp_path / "backup", fleet.data)
    fleet.start()
    edgevirt = Shell(fleet.kubeconfig)
    assert "sn-backup" in await edgevirt("get", "nodes")
    assert "before the fire" in await edgevirt("logs", "node/sn-backup")
    again = DeviceClient(fleet.nodes, fleet.root_file, machine.device)
    again.node_id = machine.node_id
    assert await again.learn_uuid() == 200
    await again.close()
    fleet.stop()
