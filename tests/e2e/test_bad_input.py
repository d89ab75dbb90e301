"""What cannot work says so in words, with its next try, and nobody else suffers from it; what can
be seen to be wrong is refused at once."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevirt.client.errors import Refused
from edgevirt.client.resources import Object
from tests.e2e.system import NODE, Poll, System, eventually, whole_system
from tests.parts.docker_registry import PASSWORD, USER, docker_registry

pytestmark = [pytest.mark.root, pytest.mark.e2e]

MAIN, TAKEN, ROTTEN, GONE, PRIVATE, HUNGRY = range(8090, 8096)
HOG = ("/bin/sh", "-c", "x=xxxxxxxx; while :; do x=$x$x; done")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A good app, and all the others at once."""
    with whole_system(tmp_path_factory.mktemp("bad")) as made:
        made.add_app("main", port=MAIN)
        made.push("rotten:1.0", marker="rotten")
        rot(made)
        made.add_image("rotten", "rotten:1.0")
        made.push("foreign:1.0", architecture="arm64")
        made.add_image("foreign", "foreign:1.0")
        made.add_image("gone", f"probe@sha256:{'0' * 64}")
        url = f"docker://registry.local:{made.private_port}"
        made.fleet.create("Datastore", "private", {"type": "OCIRegistry", "url": url})
        made.add_image("private", "private:1.0", datastoreRefs=[{"name": "private"}])
        for name, port in (("rotten", ROTTEN), ("gone", GONE), ("private", PRIVATE)):
            made.add_app(name, image=name, port=port)
        made.add_app("foreign", image="foreign")
        made.add_app("hungry", port=HUNGRY, command=HOG)
        eventually("the good app answers", lambda: made.starts(MAIN) == 1)
        yield made


@contextlib.contextmanager
def listener(system: System, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the node's network that has the port."""
    enter = ["nsenter", "-t", str(system.node.init), "-n"]
    with subprocess.Popen(
        [*enter, "busybox", "nc", "-ll", "-p", str(port), "-e", "cat"]
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def rot(system: System) -> None:
    """The registry's disk changed a byte of the layer that `rotten` alone has."""
    marker = system.directory / "rotten.tgz"
    size = marker.stat().st_size
    for data in Path(system.registry.storage).glob("docker/registry/v2/blobs/sha256/*/*/data"):
        if data.stat().st_size == size and data.read_bytes() == marker.read_bytes():
            content = bytearray(data.read_bytes())
            content[size // 2] ^= 1
            data.write_bytes(content)
            return
    raise AssertionError("the registry has no such layer")


def trouble(system: System, name: str, *words: str, again: bool = False) -> Object:
    """The first trouble of an app that says all this; `again`: and when it is tried again."""

    def told() -> Object | None:
        found = [t for t in system.troubles(name) if "retryAt" in t or not again]
        return next((t for t in found if all(word in t["message"] for word in words)), None)

    found: Object = eventually(f"{name} is told to be in trouble: {words}", told)
    assert not again or found["retryAt"] >= found["since"]
    return found


def test_an_image_that_is_not_there_is_told_with_the_next_try(system: System) -> None:
    trouble(system, "gone", "cannot fetch", "0000", "404", again=True)
    assert system.app_state("gone") in {"INITIAL", "DOWNLOADING"}


def test_bytes_that_are_not_what_the_digest_says_never_run(system: System) -> None:
    told = trouble(system, "rotten", "its bytes were wrong")
    assert "retryAt" not in told
    assert system.starts(ROTTEN) == 0
    assert system.app_process("rotten") == 0


def test_an_image_for_another_architecture_is_told_by_name_and_never_unpacked(
    system: System,
) -> None:
    trouble(system, "foreign", "linux/arm64", "linux/amd64")
    assert system.app_state("foreign") not in {"LOADED", "BOOTING", "RUNNING"}
    assert system.app_process("foreign") == 0


def test_a_registry_that_is_dead_then_closed_then_open_is_used_in_the_end(system: System) -> None:
    gone = f"registry.local:{system.private_port}"
    trouble(system, "private", gone, "connect", again=True)
    where = system.directory / "private"
    with docker_registry(where, basic=True, port=system.private_port) as registry:
        system.push("private:1.0", "private", registry.host, login=(USER, PASSWORD))
        trouble(system, "private", "401")
        login = {"username": USER, "password": PASSWORD}
        system.fleet.create("Secret", "login", {}, stringData=login)
        ref = {"credentialsSecretRef": {"name": "login"}}
        system.fleet.patch("Datastore", "private", ref)
        eventually("it runs", lambda: system.run(PRIVATE, "cat /etc/marker") == "private")
        eventually("no trouble is left", lambda: not system.troubles("private"))


def test_an_app_that_takes_more_memory_than_it_may_is_ended_and_told_why(system: System) -> None:
    trouble(system, "hungry", "it needed more memory than its 32768 KiB", again=True)
    assert eventually("its restarts are counted", lambda: system.app("hungry")["restarts"])


def test_a_port_that_the_node_itself_uses_is_told_and_taken_when_it_is_free(
    system: System,
) -> None:
    with listener(system, TAKEN):
        system.add_app("taken", port=TAKEN)
        trouble(system, "taken", f"cannot map tcp port {TAKEN}", "the node itself listens")
    eventually("the port leads to the app", lambda: system.starts(TAKEN) == 1)
    eventually("no trouble is left", lambda: not system.troubles("taken"))


def test_a_full_volume_is_its_own_apps_trouble_alone(system: System) -> None:
    full = "No space left on device"
    with Poll(system.url(TAKEN)) as other:
        assert full in system.run(MAIN, "dd if=/dev/zero of=/data/most bs=64k")
        assert full in system.run(MAIN, "dd if=/dev/zero of=/data/rest bs=1k")
        assert full in system.run(MAIN, "echo more >/data/more")
        system.add_app("late", port=9700)
        eventually("another app is made meanwhile", lambda: system.starts(9700) == 1)
    assert other.silences == []
    assert system.run(MAIN, "rm /data/most; echo fits >/data/more; cat /data/more") == "fits"


def test_an_app_that_fills_its_root_is_stopped_at_its_own_bound(system: System) -> None:
    resources = {"cpu": 1, "memory": "32Mi", "disk": "64Mi"}
    port = system.add_app("greedy", port=9701, resources=resources)
    eventually("it runs", lambda: system.starts(port) == 1)
    assert "No space left on device" in system.run(port, "dd if=/dev/zero of=/most bs=64k")
    assert system.run(port, "rm /most; echo fits >/more; cat /more") == "fits"
    system.remove_app("greedy")


def test_all_that_never_disturbed_the_good_app(system: System) -> None:
    assert system.starts(MAIN) == 1
    assert system.app_state("main") == "RUNNING"
    assert system.troubles("main") == []


# -- refused at once -----------------------------------------------------------------------------


def app(port: int, **interface: Any) -> Object:
    ports = [{"protocol": "TCP", "nodePort": port, "appPort": 80}]
    first = {"name": "eth0", "networkInstance": "apps", "ports": ports, **interface}
    return {"image": "probe", "interfaces": [first]}


def refusal(system: System, kind: str, name: str, spec: Object) -> Refused:
    with pytest.raises(Refused) as refused:
        system.fleet.create(kind, name, spec)
    return refused.value


@pytest.mark.parametrize(
    ("spec", "code", "words"),
    [
        ({"image": "probe", "imagee": "x"}, 400, "spec.imagee"),
        ({"image": 7}, 422, "spec.image"),
        ({"image": "probe", "resources": {"memory": "lots"}}, 422, "spec.resources.memory"),
        ({"image": "nowhere"}, 422, "spec.image"),
        (app(70_000), 422, "spec.interfaces[0].ports[0].nodePort"),
        (app(80, networkInstance="nowhere"), 422, "spec.interfaces[0].networkInstance"),
        (app(80, ip="10.10.0.1"), 422, "spec.interfaces[0].ip"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(
    system: System, spec: Object, code: int, words: str
) -> None:
    refused = refusal(system, "App", "wrong", spec)
    assert refused.code == code
    assert words in str(refused)


def test_a_name_that_is_taken_is_refused(system: System) -> None:
    refused = refusal(system, "App", "main", app(8200))
    assert (refused.code, refused.reason) == (409, "AlreadyExists")


def test_what_another_app_on_the_node_has_is_refused(system: System) -> None:
    system.fleet.create("App", "same-port", app(MAIN))
    wanted = {"app": "same-port", "edgeNode": NODE}
    refused = refusal(system, "AppInstance", "same-port", wanted)
    assert f"port {MAIN}/TCP" in str(refused)
    assert '"main"' in str(refused)
    system.fleet.create("App", "one", app(8201, ip="10.9.0.99"))
    system.fleet.create("App", "two", app(8202, ip="10.9.0.99"))
    idle: Object = {"app": "one", "edgeNode": NODE, "activate": False}
    system.fleet.create("AppInstance", "one", idle)
    refused = refusal(system, "AppInstance", "two", {"app": "two", "edgeNode": NODE})
    assert "address 10.9.0.99" in str(refused)
    assert "spec.app" in str(refused)


def test_what_is_used_outlives_its_deletion_and_the_app_runs_on(system: System) -> None:
    for kind, name in (("App", "main"), ("Image", "probe"), ("NetworkInstance", "apps")):
        system.fleet.delete(kind, name)
        kept = system.fleet.get(kind, name)["metadata"]
        assert kept["deletionTimestamp"]
        assert "edgevirt.io/in-use" in kept["finalizers"]
    assert system.starts(MAIN) == 1
    assert system.app_state("main") == "RUNNING"
