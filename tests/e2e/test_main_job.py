"""`make run` as people meet it: the example starts, its app answers, and all of it can be changed,
watched, taken away and ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgevirt.client.client import Client
from edgevirt.client.kubeconfig import load_connection
from edgevirt.client.resources import Object
from edgevirt.model.base import SwState
from tests.e2e.system import PATIENCE, eventually, read, traces
from tests.parts.host_node import children_of, first_process

pytestmark = [pytest.mark.root, pytest.mark.e2e]

REPOSITORY = Path(__file__).parents[2]
VISIT = re.compile(r"hello from hello-node: visit (\d+)")
STATE = re.compile(r"^  hello  ([A-Z_]+)", re.MULTILINE)


@dataclass
class Example:
    """`make run HOST=1` in a process of its own, until somebody ends it."""

    state: Path
    process: subprocess.Popen[bytes]

    @property
    def output(self) -> str:
        return (self.state.parent / "output").read_text()

    @property
    def url(self) -> str:
        found = re.search(r"http://\S+", self.output)
        return found.group() if found else ""

    @property
    def client(self) -> Client:
        return Client(load_connection(self.state / "kubeconfig"))

    def get(self, kind: str, name: str) -> Object:
        with contextlib.closing(self.client) as client:
            return client.get(client.type_of(kind), "default", name)

    def edgevirt(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "edgevirt", *arguments]
        environment = {**os.environ, "KUBECONFIG": str(self.state / "kubeconfig")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def visit(self) -> int:
        """The number that the app answers with; 0 while it does not."""
        found = VISIT.search(read(self.url))
        return int(found.group(1)) if found else 0

    @property
    def init(self) -> int:
        """Our number of the node's first process."""
        return next(pid for child in children_of(self.process.pid) if (pid := first_process(child)))

    def persisted(self, name: str) -> list[str]:
        return os.listdir(self.state / "node/persist/vault/data" / name)


@contextlib.contextmanager
def example(state: Path, *options: str) -> Iterator[Example]:
    with (state.parent / "output").open("wb") as output:
        command = [sys.executable, "-m", "examples.hello.run", "--host", "--state", str(state)]
        process = subprocess.Popen(
            [*command, *options],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    started = Example(state, process)
    try:
        yield started
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    with example(tmp_path_factory.mktemp("hello") / "state") as started:

        def ready() -> bool:
            assert started.process.poll() is None, started.output
            return "Ctrl-C ends all of it" in started.output

        eventually("the example is up", ready)
        properties = {"timer.config.interval": "5", "timer.metric.interval": "5"}
        with contextlib.closing(started.client) as client:
            node = {"spec": {"properties": properties}}
            client.patch(client.type_of("EdgeNode"), "default", "hello-node", node, style="merge")
        yield started


def test_the_app_answers_and_its_counter_grows(hello: Example) -> None:
    first = hello.visit()
    assert first > 0
    assert [hello.visit() for _ in range(3)] == [first + 1, first + 2, first + 3]


def test_states_on_the_way_are_shown_by_eves_names(hello: Example) -> None:
    states = STATE.findall(hello.output)
    assert states[-1] == "RUNNING"
    assert set(states) <= {state.name for state in SwState}


def test_the_node_is_ready_and_tells_of_itself_and_not_of_this_machine(hello: Example) -> None:
    status = hello.get("EdgeNode", "hello-node")["status"]
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert (conditions["Ready"], conditions["Online"]) == ("True", "True")
    enter = ["nsenter", "-t", str(hello.init), "-n", "ip", "-j", "addr", "show", "eth0"]
    told = json.loads(subprocess.run(enter, capture_output=True, text=True, check=True).stdout)[0]
    ip = next(a["local"] for a in told["addr_info"] if a["family"] == "inet")
    shown = {a["address"]: a["mac"] for a in status["addresses"]}
    assert shown[ip] == told["address"]
    assert hello.url == f"http://{ip}:8080/"
    assert hello.get("AppInstance", "hello")["status"]["url"] == f"http://{ip}:8080"
    assert status["hostname"] == "hello-node"


def test_what_app_and_node_say_can_be_read(hello: Example) -> None:
    number = hello.visit()
    eventually("the app's line", lambda: f"visit {number}" in hello.edgevirt("logs", "hello"))
    lines = eventually("the node's lines", lambda: hello.edgevirt("logs", "node/hello-node"))
    assert "started agent as process" in lines


def test_a_restart_keeps_the_volume(hello: Example) -> None:
    before = hello.visit()
    boot = hello.get("AppInstance", "hello")["status"]["bootTime"]
    hello.edgevirt("restart", "hello")
    eventually(
        "it was started anew",
        lambda: hello.get("AppInstance", "hello")["status"]["bootTime"] > boot,
    )
    assert eventually("it answers", hello.visit) > before


def test_a_purge_makes_the_counter_start_over(hello: Example) -> None:
    before = hello.visit()
    volumes = set(hello.persisted("volumes"))
    hello.edgevirt("purge", "hello", "--yes")
    after = eventually("the counter starts over", lambda: 0 < (n := hello.visit()) <= before and n)
    assert after < before
    eventually("the old volumes are gone", lambda: not volumes & set(hello.persisted("volumes")))


def test_what_app_and_node_use_can_be_read(hello: Example) -> None:
    def row(what: str) -> list[str]:
        return hello.edgevirt("top", what).splitlines()[-1].split()

    eventually("figures of the node", lambda: row("nodes")[0] == "hello-node")
    eventually("figures of the app", lambda: re.search(r"/64\S*Mi", " ".join(row("apps"))))


def test_a_deleted_app_is_gone_with_its_volumes(hello: Example) -> None:
    hello.edgevirt("delete", "appinstance/hello", "app/hello", "image/hello", "--yes")
    eventually("it answers no more", lambda: not hello.visit())
    eventually("its console is gone", lambda: not hello.persisted("consoles"))
    eventually("its volumes are gone", lambda: not hello.persisted("volumes"))


def left(state: Path) -> list[str]:
    """Of the node, and of all that has to do with the example's directory."""
    return [*traces(state), *traces(state / "node")]


def test_after_ctrl_c_nothing_is_left(hello: Example) -> None:
    assert left(hello.state) != []
    hello.process.send_signal(signal.SIGINT)
    eventually("it stops", lambda: "stopping" in hello.output)
    hello.process.send_signal(signal.SIGINT)
    assert hello.process.wait(PATIENCE) == 0
    eventually("all is gone", lambda: not left(hello.state))


@pytest.mark.parametrize("during", ["registry", "fleet", "node", "image", "app"])
def test_ended_while_it_starts_the_example_leaves_nothing(hello: Example, during: str) -> None:
    with example(hello.state) as second:
        eventually("it has come so far", lambda: f"{during}:" in second.output)
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(PATIENCE) == 0, second.output
    assert "Traceback" not in second.output
    eventually("all is gone", lambda: not left(hello.state))


def test_the_same_directory_is_good_for_another_run(hello: Example) -> None:
    with example(hello.state, "--once") as second:
        assert second.process.wait(PATIENCE) == 0, second.output
    assert "the app answers" in second.output
    eventually("all is gone", lambda: not left(hello.state))
