"""The edge's own verbs: counters that trigger, and who is let in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgevirt.cli.operate import raise_counters
from edgevirt.cli.session import Session
from edgevirt.client.client import Client
from edgevirt.client.kubeconfig import load_connection
from edgevirt.client.resources import Object
from tests.parts.command_line import CommandLine


@pytest.fixture
def app(cli: CommandLine) -> Object:
    cli.node("alpha")
    return cli.app_on("alpha")


@pytest.mark.usefixtures("app")
def test_each_restart_raises_the_counter_once(cli: CommandLine) -> None:
    said = cli.out("restart", "hello")
    assert said == "appinstance/hello: restart asked for (restartCounter 1)\n"
    cli.out("restart", "instance/hello")
    assert cli.get("AppInstance", "hello")["spec"]["restartCounter"] == 2


class Overtaken(Client):
    """Somebody else asks for a restart between our look and our request, once."""

    meanwhile: Callable[[], object] | None = None

    def patch(self, *args: Any, **more: Any) -> Object:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().patch(*args, **more)


@pytest.mark.usefixtures("app")
def test_two_who_ask_at_once_are_counted_twice(cli: CommandLine) -> None:
    with Session(str(cli.fleet.kubeconfig), namespace=cli.project) as session:
        session.client = Overtaken(load_connection(cli.fleet.kubeconfig))
        session.client.meanwhile = lambda: cli.out("restart", "hello")
        raise_counters(session, "appinstances", ["hello"], "restartCounter", "restart")
    assert cli.get("AppInstance", "hello")["spec"]["restartCounter"] == 2


@pytest.mark.usefixtures("app")
def test_a_purge_asks_first(cli: CommandLine) -> None:
    result = cli.run("purge", "hello", given="\n")
    assert "volumes is lost" in result.stderr
    assert result.exit_code == 1
    assert cli.get("AppInstance", "hello")["spec"]["purgeCounter"] == 0
    cli.out("purge", "hello", "-y")
    assert cli.get("AppInstance", "hello")["spec"]["purgeCounter"] == 1


def test_a_reboot_asks_first(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "apps stop meanwhile" in cli.refused("reboot", "alpha", given="n\n")
    assert "rebootCounter 1" in cli.out("reboot", "alpha", given="y\n")
    assert cli.get("EdgeNode", "alpha")["spec"]["rebootCounter"] == 1


def test_a_name_that_is_not_there_does_not_stop_the_others(cli: CommandLine) -> None:
    cli.node("alpha")
    result = cli.run("reboot", "-y", "beta", "alpha")
    assert result.exit_code == 1
    assert '"beta" not found' in result.stderr
    assert "edgenode/alpha: reboot asked for" in result.stdout


def test_a_node_is_not_restarted_as_an_app(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "it is no appinstance" in cli.refused("restart", "node/alpha")


@pytest.fixture
def request_of(cli: CommandLine) -> str:
    """A machine that asks to become a node."""
    pem = cli.fleet.ring.keys.root.pem.decode()
    cli.create("EnrollmentRequest", "machine", {"serial": "s1", "deviceCertificate": pem})
    return "machine"


def test_a_machine_is_let_in_by_name(cli: CommandLine, request_of: str) -> None:
    assert cli.out("approve", request_of) == "enrollmentrequest/machine approved\n"
    found = cli.get("EnrollmentRequest", request_of)
    assert found["spec"]["approved"] is True
    assert "ada" in found["status"]["conditions"][0]["message"]


def test_a_machine_can_be_named_when_it_is_let_in(cli: CommandLine, request_of: str) -> None:
    cli.out("approve", request_of, "--name", "factory-7")
    assert cli.get("EnrollmentRequest", request_of)["spec"]["nodeName"] == "factory-7"


def test_several_machines_cannot_have_one_name(cli: CommandLine) -> None:
    assert "approve them one by one" in cli.refused("approve", "a", "b", "--name", "x")


def test_a_machine_is_refused_by_name(cli: CommandLine, request_of: str) -> None:
    assert cli.out("deny", f"request/{request_of}") == "enrollmentrequest/machine denied\n"
    assert cli.get("EnrollmentRequest", request_of)["spec"]["approved"] is False


@pytest.mark.parametrize("verb", ["purge", "reboot", "rollback"])
def test_nobody_is_asked_about_what_is_not_there(cli: CommandLine, verb: str) -> None:
    said = cli.refused(verb, "nope", given="y\n")
    assert "not found" in said
    assert "[y/N]" not in said


def test_nobody_is_asked_about_a_rollback_that_cannot_be(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    said = cli.refused("rollback", "hello", given="y\n")
    assert "it has no snapshot" in said
    assert "[y/N]" not in said
