"""A fleet comes back from a backup: nodes lose nothing that was made since, until people say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from edgevirt.client.resources import Object
from tests.e2e.system import NODE, System, eventually, kill, whole_system

pytestmark = [pytest.mark.root, pytest.mark.e2e]

BEFORE, SINCE, LOST, AFTER = 8091, 8092, 8093, 8094
"""Ports of the apps, by when they were made."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One app was made before the backup, and two that the restored fleet does not know."""
    with whole_system(tmp_path_factory.mktemp("restored")) as made:
        made.add_app("before", port=BEFORE)
        eventually("it answers", lambda: made.starts(BEFORE) == 1)
        data, backup = made.fleet.data, made.directory / "backup"
        made.fleet.stop()
        shutil.copytree(data, backup)
        made.fleet.start()
        made.add_app("since", port=SINCE)
        made.add_app("lost", port=LOST)
        eventually("they answer", lambda: made.starts(SINCE) == made.starts(LOST) == 1)
        made.run(SINCE, "echo precious >/data/kept")
        made.fleet.stop()
        shutil.rmtree(data)
        shutil.copytree(backup, data)
        made.fleet.start()
        yield made


def applied(system: System) -> Object:
    return system.fleet.condition("EdgeNode", NODE, "ConfigApplied")


def held(system: System) -> Object:
    found: Object = system.fleet.status("EdgeNode", NODE)["heldConfig"]
    return found


def precious(system: System) -> bool:
    return system.run(SINCE, "cat /data/kept") == "precious"


def test_the_condition_names_what_the_node_would_lose(system: System) -> None:
    eventually("it is told", lambda: "app since" in applied(system).get("message", ""))
    condition = applied(system)
    assert (condition["status"], condition["reason"]) == ("False", "HeldBack")
    assert "app before" not in condition["message"]
    assert "volume since-data" in condition["message"]
    apps = held(system)["apps"]
    assert [app["name"] for app in apps] == ["lost", "since"]
    assert apps[1]["id"] in system.edgevirt("describe", f"edgenode/{NODE}")
    assert precious(system)


def test_what_is_changed_meanwhile_waits_and_says_so(system: System) -> None:
    system.add_app("after", port=AFTER)
    eventually("it is told", lambda: "held back" in system.app("after").get("what", ""))
    assert precious(system)


def test_it_stays_so_when_the_node_and_the_fleet_start_anew(system: System) -> None:
    asked = applied(system)["lastTransitionTime"]
    kill(system.node.supervisor)
    system.fleet.kill()
    system.fleet.start()
    eventually("the node is back", lambda: system.node.up())
    eventually("the app is back", lambda: precious(system))
    eventually("it reports", lambda: system.fleet.condition("EdgeNode", NODE, "Online"))
    assert (applied(system)["reason"], applied(system)["lastTransitionTime"]) == ("HeldBack", asked)
    assert "app since" in applied(system)["message"]


def test_what_is_made_again_by_its_name_is_no_loss_any_more(system: System) -> None:
    (app,) = (a for a in held(system)["apps"] if a["name"] == "since")
    system.add_app("since", port=SINCE)
    assert system.app_id("since") == app["id"]
    eventually("it is told", lambda: [a["name"] for a in held(system)["apps"]] == ["lost"])
    assert all(volume["name"].startswith("lost-") for volume in held(system)["volumes"])


def test_once_people_agree_the_node_does_as_the_fleet_says(system: System) -> None:
    starts = system.starts(BEFORE), system.starts(SINCE)
    refused = system.command("overwrite", NODE)
    assert refused.returncode != 0, "nobody answered the question"
    assert "app lost" in refused.stderr
    system.edgevirt("overwrite", NODE, "--yes")
    eventually("the new app runs", lambda: system.starts(AFTER) == 1)
    eventually("the lost one is gone", lambda: not system.run(LOST, "echo here"))
    now = system.starts(BEFORE), system.starts(SINCE)
    assert now == starts, "what both know was not touched"
    assert precious(system)
    eventually("it is told", lambda: applied(system)["status"] == "True")
    assert "heldConfig" not in system.fleet.status("EdgeNode", NODE)
    refused = system.command("overwrite", NODE, "--yes")
    assert "none is held back" in refused.stderr


def test_a_node_that_has_nothing_newer_goes_on_by_itself_after_a_restore(system: System) -> None:
    system.fleet.stop()
    said = system.edgevirt("fleet", "restored", "--data", str(system.fleet.data))
    assert said.startswith("1 nodes")
    system.fleet.start()
    system.fleet.patch("App", "after", {"env": [{"name": "A", "value": "b"}]})
    eventually("it takes the change", lambda: system.starts(AFTER) == 2)
    assert "heldConfig" not in system.fleet.status("EdgeNode", NODE)
