"""Containers in virtual machines of their own, on a whole system: a real registry, real QEMUs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevirt.client.errors import Refused
from edgevirt.image.parts.guest import publish
from tests.e2e.machine_apps import console, machine_pid, running, says
from tests.e2e.system import NODE, System, eventually, kill, read, whole_system
from tests.e2e.terminal import PATIENCE, terminal
from tests.worlds.contained import guest_files

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(600)]

BOOT = 240.0
"""Seconds until an app in an emulated machine must be there, on a machine that is busy."""
RESOURCES = {"cpu": 1, "memory": "128Mi"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    publish(guest_files(), Path(sys.prefix) / "share/edgevirt/guest")
    with whole_system(tmp_path_factory.mktemp("contained")) as made:
        yield made


def add(system: System, name: str, **spec: Any) -> int:
    """As an app is that says nothing of it."""
    return system.add_app(name, virtualization="", resources=RESOURCES, **spec)


def ask(system: System, port: int, script: str = "") -> str:
    """What the app answers, sooner or later."""
    url = system.url(port)
    if script:
        return str(eventually("it runs", lambda: read(f"{url}cgi-bin/run", script), BOOT, 0.5))
    return str(eventually("it answers", lambda: read(url), BOOT, 0.5))


def test_a_container_in_a_machine_is_an_app_like_any_other(system: System) -> None:
    greeting = [{"name": "GREETING", "value": "hello, whoever reads a disk"}]
    port = add(system, "walled", env=greeting)
    assert ask(system, port) == "here\n"
    assert running(system, "walled")

    said = ask(system, port, "cat /proc/version; echo $GREETING; echo kept >>/data/notes; sync")
    assert "cloud" in said  # a kernel of its own
    assert "hello, whoever reads a disk" in said
    assert system.holds(b"whoever reads a disk") == [], "it came encrypted, and stays in memory"
    assert Path("/proc/version").read_text() not in said
    eventually("its words are kept", lambda: console(system, "walled"), 60, 0.5)
    assert console(system, "walled").split() == ["probe", "started"]  # and nothing of its kernel's

    look_on(system, port)
    before = machine_pid(system, "walled")
    system.edgevirt("restart", "walled")
    eventually("it is another machine", lambda: machine_pid(system, "walled") not in (0, before))
    notes = ask(system, port, "cat /data/notes /data/ends")
    assert notes.split() == ["kept", "stopped"]  # it was asked to end, and did

    kill(machine_pid(system, "walled"))
    (trouble,) = eventually("its end is told", lambda: system.troubles("walled"), 60)
    assert "ended by signal SIGKILL" in trouble["message"]
    assert ask(system, port, "cat /data/notes") == "kept\n"
    system.remove_app("walled")
    eventually("its machine is gone", lambda: not system.pids("qemu-system-x86"), 60)


def look_on(system: System, port: int) -> None:
    """At its console is what it prints; a screen it has not."""
    with terminal(system, "console", "walled") as watcher:
        watcher.shows(f"at the console of walled on {NODE}")
        assert ask(system, port, "echo loud words >/dev/hvc0; echo said") == "said\n"
        watcher.shows("loud words")
        watcher.type("\x1d")
        assert watcher.process.wait(PATIENCE) == 0
    done = system.command("vnc", "walled")
    assert done.returncode == 1
    assert "a container has no screen; `edgevirt console walled`" in done.stderr


BOOKS = {"name": "books", "volume": "books", "mountPath": "/data"}


def mebibytes(system: System, port: int) -> int:
    """Of its data, as the app sees it."""
    return int(ask(system, port, "df -Pm /data").splitlines()[-1].split()[1])


def listed(system: System) -> list[str]:
    lines = system.edgevirt("get", "volumes").splitlines()
    return next(line for line in lines if line.startswith("books")).split()


def test_its_volume_grows_while_it_runs_and_while_it_does_not(system: System) -> None:
    system.fleet.create("Volume", "books", {"edgeNode": NODE, "size": "16Mi"})
    port = add(system, "reader", volumes=[BOOKS])
    assert ask(system, port) == "here\n"
    assert ask(system, port, "echo 'chapter one' >/data/book; sync; echo done")
    assert 8 < mebibytes(system, port) <= 16
    before = machine_pid(system, "reader")

    system.fleet.patch("Volume", "books", {"size": "64Mi"})
    for service in ("volumes", "domains", "apps"):
        kill(system.node.pid(service))
    eventually("the app sees it", lambda: mebibytes(system, port) > 48, 60, 0.5)
    assert ask(system, port, "cat /data/book") == "chapter one\n"
    eventually("it is told", lambda: listed(system)[2] == "64Mi", 60)
    assert listed(system)[5] == "True"
    assert system.fleet.status("Volume", "books")["capacity"] == 64 << 20
    assert machine_pid(system, "reader") == before, "it went on"

    with pytest.raises(Refused, match="cannot make volume books smaller: it has 64Mi"):
        system.fleet.patch("Volume", "books", {"size": "32Mi"})
    system.fleet.patch("Volume", "books", {"size": "999Gi"})
    why = "cannot grow volume books from 64 MiB to 999 GiB: Remaining disk space"
    eventually("no room is told", lambda: why in system.fleet.status("Volume", "books")["what"])
    assert listed(system)[2] == "64Mi/999Gi"
    assert ask(system, port, "cat /data/book") == "chapter one\n"

    system.fleet.patch("AppInstance", "reader", {"activate": False})
    eventually("it has ended", lambda: not machine_pid(system, "reader"), 60)
    system.fleet.patch("Volume", "books", {"size": "128Mi"})
    eventually("it has grown", lambda: listed(system)[2:6:3] == ["128Mi", "True"], 60)
    kill(system.node.supervisor)
    system.fleet.patch("AppInstance", "reader", {"activate": True})
    assert ask(system, port, "cat /data/book") == "chapter one\n"
    assert mebibytes(system, port) > 96
    system.remove_app("reader")
    system.fleet.delete("Volume", "books")


@pytest.mark.slow
def test_one_that_crashes_is_started_again_and_its_code_is_told(system: System) -> None:
    add(system, "crashing", command=["/bin/sh", "-c", "echo words; exit 3"])
    (trouble,) = eventually("its end is told", lambda: system.troubles("crashing"), BOOT, 0.5)
    assert "it ended by itself with exit code 3" in trouble["message"]
    eventually("again", lambda: system.app("crashing").get("restarts", 0) >= 2, BOOT)
    says(system, "crashing", "words")
    system.remove_app("crashing")


@pytest.mark.slow
def test_a_program_that_cannot_run_there_is_told_by_name(system: System) -> None:
    add(system, "foreign", command=["/no/such/program"])
    (trouble,) = eventually("its end is told", lambda: system.troubles("foreign"), BOOT, 0.5)
    assert trouble["message"].startswith("cannot start /no/such/program: no such program")
    system.remove_app("foreign")


@pytest.mark.slow
def test_what_a_machine_wrote_is_mounted_again_only_after_a_purge(system: System) -> None:
    port = add(system, "moving")
    assert ask(system, port) == "here\n"
    system.fleet.patch("App", "moving", {"virtualization": "None"})
    (trouble,) = eventually("it is told", lambda: system.troubles("moving"), 120, 0.5)
    assert "purge the app" in trouble["message"]
    system.edgevirt("purge", "moving", "-y")
    assert ask(system, port) == "here\n"
    assert not machine_pid(system, "moving")
    system.remove_app("moving")
