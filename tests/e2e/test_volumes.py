"""Volumes that no App owns: their data goes from one app to the next, and may be read by many."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from edgevirt.client.errors import Refused
from edgevirt.client.resources import Object
from tests.e2e.system import NODE, System, eventually, kill, whole_system

pytestmark = [pytest.mark.root, pytest.mark.e2e]

BOOKS = {"name": "books", "volume": "books", "mountPath": "/data"}
MAPS = {"name": "maps", "volume": "maps", "mountPath": "/maps"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two Volumes: a blank one, and one that is made from an image."""
    with whole_system(tmp_path_factory.mktemp("volumes")) as made:
        made.push("maps:1", marker="here-be-dragons")
        made.add_image("maps", "maps:1")
        made.fleet.create("Volume", "books", {"edgeNode": NODE, "size": "16Mi"})
        made.fleet.create("Volume", "maps", {"edgeNode": NODE, "image": "maps", "readOnly": True})
        yield made


def volume(system: System, name: str) -> Object:
    return system.fleet.status("Volume", name)


def is_ready(system: System, name: str) -> bool:
    told = volume(system, name).get("conditions", [])
    conditions = {one["type"]: one["status"] for one in told}
    return conditions.get("Ready") == "True"


def running(system: System, name: str, port: int) -> None:
    eventually(f"{name} answers", lambda: system.run(port, "echo yes") == "yes")


def marked(system: System, port: int, marker: str) -> bool:
    return system.run(port, "cat /maps/etc/marker") == marker


def gone(system: System, name: str) -> None:
    """Of the node too."""
    id = system.app_id(name)
    system.remove_app(name)
    group = f"-user-apps/{id}"

    def left() -> bool:
        groups = (Path(f"/proc/{pid}/cgroup") for pid in system.processes())
        return any(group in path.read_text() for path in groups if path.exists())

    eventually(f"{name} is gone", lambda: not left())


def test_it_is_made_before_anybody_wants_it_and_told_of(system: System) -> None:
    eventually("books is there", lambda: is_ready(system, "books"))
    eventually("maps is there", lambda: is_ready(system, "maps"))
    books = volume(system, "books")
    assert (books["state"], books["what"]) == ("CREATED_VOLUME", "there")
    assert books["since"]
    assert books["capacity"] == 16 << 20
    line = next(x for x in system.edgevirt("get", "volumes").splitlines() if "books" in x)
    assert line.split()[:6] == ["books", NODE, "16Mi", "ReadWrite", "CREATED_VOLUME", "True"]


def test_what_one_app_wrote_the_next_one_reads(system: System) -> None:
    port = system.add_app("first", volumes=[BOOKS])
    running(system, "first", port)
    system.run(port, "echo 'chapter one' >/data/book; sync")
    eventually("who uses it is told", lambda: volume(system, "books")["usedBy"] == ["first"])
    gone(system, "first")
    eventually("nobody does", lambda: not volume(system, "books").get("usedBy"))
    port = system.add_app("second", volumes=[BOOKS])
    running(system, "second", port)
    assert system.run(port, "cat /data/book") == "chapter one"


def test_it_is_one_app_s_at_a_time_and_the_second_is_told_whose(system: System) -> None:
    with pytest.raises(Refused, match='is held by AppInstance "second"'):
        system.add_app("third", volumes=[BOOKS])
    system.fleet.delete("App", "third")


def test_a_purge_of_its_app_leaves_it_as_it_is(system: System) -> None:
    port = system.fleet.get("App", "second")["spec"]["interfaces"][0]["ports"][0]["nodePort"]
    began = "cut -d' ' -f22 /proc/1/stat"  # what the node tells of it counts in seconds
    before = eventually("it says when it began", lambda: system.run(port, began))
    system.edgevirt("purge", "second", "--yes")
    eventually("it was made anew", lambda: system.run(port, began) not in ("", before))
    assert system.run(port, "cat /data/book") == "chapter one"


def test_it_is_not_deleted_while_an_app_names_it(system: System) -> None:
    said = system.command("delete", "volume", "books", "--yes")
    assert 'App "second" (spec.volumes[0].volume)' in said.stdout + said.stderr
    assert system.fleet.get("Volume", "books")["metadata"]["deletionTimestamp"]
    id = volume(system, "books")["volumeID"]
    assert any(name.startswith(id) for name in system.kept("volumes"))
    gone(system, "second")
    eventually(
        "its data is gone", lambda: not any(x.startswith(id) for x in system.kept("volumes"))
    )


def test_a_read_only_one_is_shared(system: System) -> None:
    ports = {name: system.add_app(name, volumes=[MAPS]) for name in ("east", "west")}
    for name, port in ports.items():
        running(system, name, port)
    for port in ports.values():
        assert system.run(port, "cat /maps/etc/marker") == "here-be-dragons"
        assert "Read-only" in system.run(port, "touch /maps/new")
    eventually("both are told", lambda: volume(system, "maps")["usedBy"] == ["east", "west"])
    kill(system.node.supervisor)
    eventually("all are back", lambda: system.node.up())
    for name, port in ports.items():
        running(system, name, port)


def test_its_content_changes_with_its_image_and_its_apps_go_along(system: System) -> None:
    system.push("maps:2", marker="new-world")
    system.fleet.patch("Image", "maps", {"reference": "maps:2"})
    for name in ("east", "west"):
        port = system.fleet.get("App", name)["spec"]["interfaces"][0]["ports"][0]["nodePort"]

        eventually(f"{name} has the new one", partial(marked, system, port, "new-world"))
    eventually("it is told", lambda: is_ready(system, "maps"))


def test_an_app_is_not_put_where_its_volume_is_not(system: System) -> None:
    system.fleet.create("EdgeNode", "far", {"serial": "far"})
    with pytest.raises(Refused, match='Volume "maps" is on EdgeNode "edge-1"'):
        system.fleet.create("AppInstance", "east-far", {"app": "east", "edgeNode": "far"})
