"""What was wanted of a node is what it does after any end: asked for, sudden, without its fleet,
or with a config on its disk that somebody changed."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from tests.e2e.system import NODE, PATIENCE, System, eventually, kill, traces, whole_system

pytestmark = [pytest.mark.root, pytest.mark.e2e]

PORT = 8086


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("restarts")) as made:
        made.add_app("main", port=PORT)
        eventually("the app answers", lambda: made.starts(PORT) == 1)
        yield made


def restart(system: System) -> None:
    system.stop_node()
    system.start_node()
    eventually("all services run", system.node.up)


def runs_within(system: System, seconds: float) -> bool:
    """Of a node whose services run: whether its app does, too."""
    eventually("all services run", system.node.up)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if system.pids("probe"):
            return True
        time.sleep(0.05)
    return False


def said(system: System, text: str) -> bool:
    """By the agent, in this run of the node."""
    with contextlib.suppress(FileNotFoundError):
        return text in system.node.log("agent")
    return False


def test_a_stopped_app_stays_stopped_after_its_node_starts_anew(system: System) -> None:
    system.fleet.patch("AppInstance", "main", {"activate": False})
    eventually("it is HALTED", lambda: system.app_state("main") == "HALTED")
    assert system.starts(PORT) == 0
    restart(system)
    eventually("the node tells of it", lambda: system.app("main").get("what") == "stopped")
    assert not runs_within(system, 1)


def test_an_app_that_is_started_again_has_its_volume(system: System) -> None:
    system.fleet.patch("AppInstance", "main", {"activate": True})
    eventually("it runs", lambda: system.starts(PORT) == 2)
    assert system.run(PORT, "cat /data/ends") == "stopped"


def test_a_reboot_that_is_asked_for_is_done_once_and_its_reason_told(system: System) -> None:
    before = system.node.init
    system.fleet.patch("EdgeNode", NODE, {"rebootCounter": 1})
    eventually("it is back", lambda: system.node.init not in (0, before) and system.node.up())
    eventually("the app is back", lambda: system.starts(PORT) == 3)
    assert system.run(PORT, "cat /data/ends") == "stopped\nstopped"

    def told() -> bool:
        return "reboot" in system.fleet.status("EdgeNode", NODE).get("bootReason", "").lower()

    eventually("the fleet knows why", told)


def test_with_a_nodes_outer_process_all_of_it_ends_and_it_can_start_anew(system: System) -> None:
    inside = system.processes()
    kill(system.node.process.pid)
    system.node.process.wait()
    assert len(inside) > 10
    eventually("no process is left", lambda: "process" not in str(traces(system.state)))
    assert traces(system.state) != []
    system.start_node()
    eventually("the app is back", lambda: system.starts(PORT) == 4)
    assert system.run(PORT, "cat /data/ends") == "stopped\nstopped"


def test_without_its_fleet_a_node_starts_its_apps_from_what_it_has(system: System) -> None:
    system.fleet.stop()
    restart(system)
    eventually("the app is back", lambda: system.starts(PORT) == 5)
    assert said(system, "started from the saved config of version")


def test_a_config_that_somebody_changed_on_disk_is_not_used_but_its_backup(
    system: System,
) -> None:
    system.stop_node()
    flip_a_byte(system, "config")
    system.start_node()
    eventually("the backup is used", lambda: said(system, "started from the saved config.bak"))
    assert said(system, "cannot use the saved config: cannot believe")
    eventually("the app is back", lambda: system.starts(PORT) == 6)


def test_without_any_config_to_believe_nothing_runs_and_nothing_is_thrown_away(
    system: System,
) -> None:
    system.stop_node()
    flip_a_byte(system, "config.bak")
    volumes = system.kept("volumes")
    system.start_node()
    eventually(
        "it says so", lambda: said(system, "cannot use the saved config.bak: cannot believe")
    )
    assert not runs_within(system, 2)
    system.fleet.start()
    eventually("the app is back", lambda: system.starts(PORT) == 7)
    assert system.kept("volumes") == volumes


def flip_a_byte(system: System, name: str) -> None:
    path = system.state / "persist/checkpoint" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.15, 0.3, 0.6, 1.2])
def test_a_node_that_is_asked_to_stop_while_it_starts_does_so_and_leaves_nothing(
    system: System, seconds: float
) -> None:
    if system.node.process.poll() is None:
        system.stop_node()
    system.launch_node()
    time.sleep(seconds)  # whatever it is at in that moment
    system.node.process.send_signal(signal.SIGTERM)
    assert system.node.process.wait(PATIENCE) in {0, -signal.SIGTERM}
    assert system.left() == []
