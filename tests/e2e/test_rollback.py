"""An update that goes wrong is undone: the old version comes back with the data that it had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgevirt.client.resources import Object
from tests.e2e.system import NODE, System, eventually, kill, whole_system

pytestmark = [pytest.mark.root, pytest.mark.e2e]

MAIN = 8086


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One app, of the first version, that has written something."""
    with whole_system(tmp_path_factory.mktemp("rollback")) as made:
        for version in ("one", "two", "three"):
            made.push(f"probe:{version}", marker=version)
            made.add_image(version, f"probe:{version}")
        made.add_app("main", image="one", port=MAIN, snapshots={"max": 2})
        eventually("the app answers", lambda: version_of(made) == "one")
        made.run(MAIN, "echo first >/data/visits; echo mine >/note")
        yield made


def version_of(system: System) -> str:
    return system.run(MAIN, "cat /etc/marker")


def written(system: System) -> str:
    return system.run(MAIN, "cat /data/visits /note 2>/dev/null")


def snapshots(system: System) -> list[Object]:
    found: list[Object] = system.app("main").get("snapshots", [])
    return [one for one in found if one.get("version") and not one.get("message")]


def trouble_of(system: System, words: str) -> str:
    found = (error["message"] for error in system.troubles("main"))
    return next((message for message in found if words in message), "")


def update(system: System, image: str) -> None:
    system.fleet.patch("App", "main", {"image": image})
    eventually(f"{image} runs", lambda: version_of(system) == image)


def files(system: System) -> set[str]:
    return {name for name in system.kept("volumes") if "@" in name}


def test_before_an_update_the_app_is_kept_with_its_data(system: System) -> None:
    update(system, "two")
    assert written(system) == "first", "its data goes on, what it wrote over its image does not"
    (one,) = eventually("the snapshot is told", lambda: snapshots(system))
    assert one["version"] == "1"
    assert one["id"] in system.edgevirt("describe", "appinstance/main")


def test_a_rollback_brings_the_old_version_back_and_the_data_of_then(system: System) -> None:
    system.run(MAIN, "echo second >>/data/visits")
    said = system.edgevirt("rollback", "main", "--yes")
    assert snapshots(system)[0]["id"] in said
    eventually("the old version runs", lambda: version_of(system) == "one")
    assert written(system) == "first\nmine"
    words = "rolled back to version 1; the App says 2"
    eventually("the fleet knows", lambda: words in system.app("main")["what"])


def test_the_fleet_does_not_fight_it_and_a_restart_restarts_the_old(system: System) -> None:
    starts = system.starts(MAIN)
    system.edgevirt("restart", "main")
    eventually("it was restarted", lambda: system.starts(MAIN) > starts)
    assert version_of(system) == "one"
    assert written(system) == "first\nmine"


def test_nor_does_the_node_when_all_its_services_start_anew(system: System) -> None:
    kill(system.node.supervisor)
    eventually("all are back", lambda: system.node.up())
    eventually("the old version runs", lambda: version_of(system) == "one")
    assert written(system) == "first\nmine"


def test_forward_again_is_an_update_like_any_other(system: System) -> None:
    system.run(MAIN, "echo third >>/data/visits")
    system.edgevirt("rollback", "main", "--undo")
    eventually("the new version runs", lambda: version_of(system) == "two")
    assert written(system) == "first\nthird", "the data goes on, as at any update"
    eventually("both are told", lambda: len(snapshots(system)) == 2)


def test_where_the_node_s_disk_went_can_be_read(system: System) -> None:
    def said() -> str:
        return system.edgevirt("describe", f"edgenode/{NODE}").partition("Storage, ")[2]

    shown = eventually("snapshots have their line", lambda: "snapshots:" in said() and said())
    for title in ("reserved for the node:", "images:", "promised to volumes:", "in use:", "size:"):
        assert title in shown


def test_an_update_that_finds_no_room_is_not_made_until_there_is(system: System) -> None:
    """Nobody has a disk for what it may write."""
    system.fleet.patch("App", "main", {"image": "three", "resources": {"disk": "900Ti"}})
    error = eventually("why is told", lambda: trouble_of(system, "Remaining disk space "))
    assert " are free, " in error
    assert version_of(system) == "two"
    system.fleet.patch("App", "main", {"resources": {"disk": "64Mi"}})
    eventually("three runs", lambda: version_of(system) == "three")
    eventually("no trouble is left", lambda: not system.troubles("main"))


def test_only_the_newest_are_kept_and_nothing_of_the_others_stays(system: System) -> None:
    def told_are_kept() -> bool:
        told = {one["id"] for one in snapshots(system)}  # the newest comes late
        return len(told) == 2 and {name.partition("@")[0] for name in files(system)} == told

    eventually("two are told, and the rest is gone", told_are_kept)


def test_an_app_with_no_snapshot_says_so(system: System) -> None:
    system.fleet.patch("App", "main", {"snapshots": {"max": 0}})
    eventually("none is kept", lambda: not files(system))
    eventually("none is told", lambda: not snapshots(system))
    said = system.command("rollback", "main", "--yes")
    assert said.returncode == 1
    assert "it has no snapshot" in said.stderr
    assert version_of(system) == "three"
