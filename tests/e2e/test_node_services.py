"""A whole node on this machine: every service has its row's rights, and comes back when it ends.

Asked of the kernel from outside, while the real services run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevirt.host.cgroup import Cgroup
from edgevirt.host.rights.confine import CAPABILITIES, permitted
from edgevirt.model.machine import BootReason
from edgevirt.node.init import SHUTDOWN
from edgevirt.node.services import ROWS, Row
from tests.parts.host_node import (
    ENVIRONMENT,
    PATIENCE,
    Node,
    children_of,
    command,
    eventually,
    group_of,
    leftovers,
    name_of,
    running,
    services_of,
    start,
    status,
)

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("node")) as started:
        yield started


def by_name(row: Row) -> str:
    return row.name


def running_pid(node: Node, service: str) -> int:
    eventually(lambda: node.pid(service) > 1, f"{service} runs")
    return node.pid(service)


def comes_back(node: Node, service: str, before: int) -> None:
    eventually(lambda: node.pid(service) not in (0, before), f"{service} is back")


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_a_service_has_its_rows_user_and_capabilities_and_no_other(node: Node, row: Row) -> None:
    pid = node.pid(row.name)
    assert status(pid, "Uid") == [str(row.uid)] * 4
    assert status(pid, "Gid") == [str(row.uid)] * 4
    kept = {CAPABILITIES[name] for name in row.capabilities} & permitted()
    for field in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
        (mask,) = status(pid, field)
        assert {n for n in range(64) if int(mask, 16) >> n & 1} == kept, field


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_a_service_cannot_gain_rights_and_its_calls_are_filtered(node: Node, row: Row) -> None:
    pid = node.pid(row.name)
    assert status(pid, "Seccomp") == ["2"]
    assert status(pid, "NoNewPrivs") == ["1" if row.no_new_privileges else "0"]


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_a_service_is_in_its_own_bounded_group(node: Node, row: Row) -> None:
    group = Cgroup(f"{group_of(node.state)}/services/{row.name}")
    pid = node.pid(row.name)
    assert f"/{group.path}" in Path(f"/proc/{pid}/cgroup").read_text()
    usage = group.usage()
    assert usage is not None
    assert usage.memory_limit == row.memory


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_only_services_with_network_in_their_row_are_in_the_nodes(node: Node, row: Row) -> None:
    own = os.readlink(f"/proc/{node.pid(row.name)}/ns/net")
    assert (own == os.readlink(f"/proc/{node.init}/ns/net")) is row.network
    assert own != os.readlink("/proc/self/ns/net")


def test_the_machines_files_are_read_only_and_its_run_directory_is_not_seen(node: Node) -> None:
    mounts = Path(f"/proc/{node.init}/mountinfo").read_text().splitlines()
    options = {line.split()[4]: line.split()[5] for line in mounts}
    assert "ro" in options["/"].split(",")
    assert {"nosuid", "nodev"} <= set(options["/run/edgevirt/persist"].split(","))
    assert sorted(os.listdir(f"/proc/{node.init}/root/run")) == ["edgevirt"]


def test_no_service_reads_the_keys_but_the_one_that_owns_them(node: Node) -> None:
    keys = node.file("persist/keys")
    owner = {row.name: row.uid for row in ROWS}["trust"]
    eventually(lambda: (keys / "device.key.pem").exists(), "the device key is made")
    assert (keys.stat().st_uid, keys.stat().st_mode & 0o777) == (owner, 0o700)
    assert (keys / "device.key.pem").stat().st_mode & 0o777 == 0o600


def test_a_fresh_node_runs_without_a_service_that_failed(node: Node) -> None:
    log = node.log("supervisor")
    assert "start 1 of the node" in log
    assert [line for line in log.splitlines() if " ended: " in line] == []


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_a_killed_service_comes_back_with_its_rights(node: Node, row: Row) -> None:
    before = running_pid(node, row.name)
    os.kill(before, signal.SIGKILL)
    comes_back(node, row.name, before)
    assert status(node.pid(row.name), "Uid") == [str(row.uid)] * 4
    assert f"{row.name} ended: killed by SIGKILL" in node.log("supervisor")


def test_a_hung_service_is_killed_and_comes_back(node: Node) -> None:
    before = {service: running_pid(node, service) for service in ("trust", "networks")}
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    for service, pid in before.items():
        comes_back(node, service, pid)
        assert f"{service} killed: hung" in node.log("supervisor")


def test_what_a_service_left_running_outlives_it_and_the_supervisor(node: Node) -> None:
    """As a container's monitor does: a process that its parent left becomes init's child."""
    script = "setsid sleep 600 >/dev/null 2>&1 </dev/null &"
    init = node.init
    subprocess.run(
        ["nsenter", "-t", str(node.supervisor), "-m", "-p", "-n", "sh", "-c", script], check=True
    )

    def left_running() -> list[int]:
        return [pid for pid in children_of(init) if name_of(pid) == "sleep"]

    eventually(lambda: len(left_running()) == 1, "it is init's child")
    (left,) = left_running()
    before = node.supervisor
    services = [node.pid(row.name) for row in ROWS]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: node.supervisor not in (0, before) and node.up(), "the supervisor is back")
    assert not any(Path(f"/proc/{pid}").exists() for pid in services)
    assert left in children_of(init)
    os.kill(left, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{left}").exists(), "init reaps what ended")
    boot = json.loads(node.file("persist/boot.json").read_text())
    assert boot.get("count", 1) == 1


def test_a_node_that_is_asked_to_stop_leaves_nothing_and_says_so_at_its_next_start(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as first:
        pids = [first.init, first.supervisor, *services_of(first.supervisor).values()]
        assert leftovers(first.state) != []
    assert first.process.returncode == 0
    assert leftovers(first.state) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with running(tmp_path) as second:
        boot = json.loads(second.file("persist/boot.json").read_text())
        assert (boot["count"], boot["text"]) == (2, "the node was asked to stop")


def test_a_node_whose_outer_process_is_killed_ends_whole_and_can_be_started_again(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as first:
        pids = [first.init, first.supervisor, *services_of(first.supervisor).values()]
        first.process.kill()
        first.process.wait()
        eventually(lambda: not any(Path(f"/proc/{p}").exists() for p in pids), "all have ended")
    with running(tmp_path) as second:
        boot = json.loads(second.file("persist/boot.json").read_text())
        assert boot["text"] == "the run before ended without a word"
    assert leftovers(second.state) == []


def test_a_reboot_and_a_shutdown_that_the_agent_wants_are_done_once_each(tmp_path: Path) -> None:
    node = start(tmp_path, modules={"agent": "commanding_agent", "supervisor": ""})
    try:
        assert node.process.wait(PATIENCE) == SHUTDOWN
    finally:
        node.process.kill()
        node.process.wait()
    boot = json.loads((node.state / "persist/boot.json").read_text())
    assert (boot["count"], boot["text"]) == (2, "a test wants a reboot")
    assert boot["reason"] == BootReason.REBOOT_COMMAND
    end = json.loads((node.state / "persist/end.json").read_text())
    assert (end["reason"], end["text"]) == (BootReason.POWEROFF_COMMAND, "a test wants a shutdown")
    assert leftovers(node.state) == []


def test_two_nodes_never_run_in_one_state_directory(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        second = subprocess.run(
            command(tmp_path), capture_output=True, text=True, check=False, env=ENVIRONMENT
        )
        assert second.returncode != 0
        assert "one runs in" in second.stderr
        assert first.up()
