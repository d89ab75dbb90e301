"""Whatever dies on a node, its apps go on, it comes back by itself, and changes still arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edgevirt.node.services import ROWS, Row
from tests.e2e.system import NODE, Poll, System, eventually, kill, whole_system

pytestmark = [pytest.mark.root, pytest.mark.e2e]

MAIN = 8085


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with whole_system(tmp_path_factory.mktemp("breakdowns")) as made:
        made.add_app("main", port=MAIN)
        eventually("the app answers", lambda: made.starts(MAIN) == 1)
        eventually("it is RUNNING", lambda: made.app_state("main") == "RUNNING")
        yield made


def deploy_during(system: System, name: str, blow: Callable[[], None]) -> None:
    """A new app from a new image, with `blow` as soon as the node has its config."""
    system.push(f"probe:{name}", marker=name)
    system.add_image(name, f"probe:{name}")
    taken = system.state / "persist/checkpoint/config"
    before = taken.stat().st_ino
    port = system.add_app(name, image=name)
    eventually("the node has the config", lambda: taken.stat().st_ino != before, every=0.002)
    blow()
    eventually(f"{name} answers", lambda: system.run(port, "cat /etc/marker") == name)
    system.remove_app(name)
    system.fleet.delete("Image", name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_killed_service_neither_stops_an_app_nor_loses_the_change_under_way(
    system: System, row: Row
) -> None:
    before = eventually("it runs", lambda: system.node.pid(row.name))
    with Poll(system.url(MAIN)) as poll:
        deploy_during(system, f"during-{row.name}", lambda: kill(before))
        eventually(f"{row.name} is back", lambda: system.node.pid(row.name) not in (0, before))
    assert poll.silences == []
    assert poll.answers > 20


def test_a_killed_supervisor_takes_all_services_down_and_no_app(system: System) -> None:
    before = system.node.supervisor
    with Poll(system.url(MAIN)) as poll:
        deploy_during(system, "during-all", lambda: kill(before))
        eventually("all are back", lambda: system.node.supervisor != before and system.node.up())
    assert poll.silences == []
    assert poll.answers > 20


def test_a_killed_name_server_is_replaced_and_apps_find_names_again(system: System) -> None:
    before = system.pids("dnsmasq")
    assert len(before) == 1
    assert "10.9.0." in system.run(MAIN, "nslookup main")
    with Poll(system.url(MAIN)) as poll:
        kill(before[0])
        eventually("a new one runs", lambda: set(system.pids("dnsmasq")) - set(before))
        eventually("it answers", lambda: "10.9.0." in system.run(MAIN, "nslookup main"))
    assert poll.silences == []


def test_a_killed_app_runs_again_at_once_and_the_crash_is_counted_and_told(system: System) -> None:
    starts, crashes = system.starts(MAIN), system.app("main")["restarts"]
    kill(system.app_process("main"))
    eventually("it runs again", lambda: system.starts(MAIN) == starts + 1)
    eventually("it is counted", lambda: system.app("main")["restarts"] == crashes + 1)
    eventually("it is RUNNING", lambda: system.app_state("main") == "RUNNING")
    (error,) = eventually("why is told", lambda: system.troubles("main"))
    assert error["message"] == "cannot keep running: it was ended by signal SIGKILL"


def test_an_app_whose_monitor_is_killed_runs_again_under_a_new_one(system: System) -> None:
    starts, before = system.starts(MAIN), system.monitor("main")
    kill(before)
    eventually("the app was started anew", lambda: system.starts(MAIN) == starts + 1)
    assert system.monitor("main") not in (0, before)
    eventually("it is RUNNING", lambda: system.app_state("main") == "RUNNING")


def test_after_all_that_a_change_still_arrives(system: System) -> None:
    starts = system.starts(MAIN)
    system.fleet.patch("AppInstance", "main", {"restartCounter": 1})
    eventually("it was restarted", lambda: system.starts(MAIN) == starts + 1)
    assert system.run(MAIN, "tail -n 1 /data/ends") == "stopped"


def test_no_volume_of_a_deleted_app_stays_on_the_node(system: System) -> None:
    """Apps came and went while something died. `timer.gc.vdisk`: how long volumes are kept that
    nobody has wanted since their service began."""
    system.fleet.patch("EdgeNode", NODE, {"properties": {"timer.gc.vdisk": "0"}})
    eventually("their volumes are gone", lambda: len(system.kept("volumes")) == 2)


@pytest.mark.parametrize("role", ["signing", "encryption", "tls"])
def test_changes_arrive_under_certificates_that_were_rotated_meanwhile(
    system: System, role: str
) -> None:
    starts = system.starts(MAIN)
    counter = system.fleet.get("AppInstance", "main")["spec"].get("restartCounter", 0)
    rotations = system.fleet.log().count("certificates were rotated")
    system.fleet.rotate(role)
    eventually(
        "the fleet has the new ones",
        lambda: system.fleet.log().count("certificates were rotated") > rotations,
    )
    system.fleet.patch("AppInstance", "main", {"restartCounter": counter + 1})
    eventually("it was restarted", lambda: system.starts(MAIN) == starts + 1)


def test_no_service_ended_but_those_that_were_killed(system: System) -> None:
    log = eventually(
        "the node's log is there", lambda: system.edgevirt("logs", f"node/{NODE}", "--tail", "5000")
    )
    assert "ended: killed by SIGKILL" in log
    assert [line for line in log.splitlines() if "ended: exit" in line or " failed: " in line] == []


def test_in_the_end_nothing_of_their_images_stays_either(system: System) -> None:
    """The probe has three blobs. What was fetched is kept for a while, in which the tests between
    were made."""
    eventually("their layers are gone", lambda: len(system.kept("layers")) == 1)
    eventually("their blobs are gone", lambda: len(system.kept("blobs")) == 3)
