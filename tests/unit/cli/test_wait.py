"""wait: scripts go on when the thing is so, and fail when it isn't."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.parts.command_line import CommandLine


def _meanwhile(work: Callable[[], object]) -> threading.Thread:
    """Somebody else acts while the command waits."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _condition(cli: CommandLine, status: str, **more: object) -> None:
    condition = {"type": "Ready", "status": status, **more}
    cli.patch("EdgeNode", "alpha", {"status": {"conditions": [condition]}}, "status")


def test_a_condition_that_holds_already_is_not_waited_for(cli: CommandLine) -> None:
    cli.node("alpha")
    _condition(cli, "True")
    said = cli.out("wait", "node/alpha", "--for", "condition=Ready", "--timeout", "0")
    assert said == "edgenode/alpha: condition met\n"


def test_a_condition_that_comes_ends_the_wait(cli: CommandLine) -> None:
    cli.node("alpha")
    with cli.running("wait", "node/alpha", "--for", "condition=ready=false") as wait:
        _condition(cli, "False")
        assert wait.line() == "edgenode/alpha: condition met"


def test_a_condition_of_an_older_spec_does_not_count(cli: CommandLine) -> None:
    cli.node("alpha")
    _condition(cli, "True", observedGeneration=1)
    cli.patch("EdgeNode", "alpha", {"spec": {"activate": False}})
    words = ("wait", "node/alpha", "--for", "condition=Ready", "--timeout", "0")
    assert "did not come" in cli.refused(*words)
    _condition(cli, "True", observedGeneration=2)
    cli.out(*words)


def test_a_value_that_comes_ends_the_wait(cli: CommandLine) -> None:
    cli.node("alpha")
    someone = _meanwhile(
        lambda: cli.patch("EdgeNode", "alpha", {"status": {"phase": "Online"}}, "status")
    )
    cli.out("wait", "node/alpha", "--for", "jsonpath={.status.phase}=Online")
    someone.join()


@pytest.mark.parametrize("path", ["{.status.phase}", ".status.phase"])
def test_a_path_alone_waits_for_any_value(cli: CommandLine, path: str) -> None:
    cli.node("alpha")
    words = ("wait", "node/alpha", "--for", f"jsonpath={path}", "--timeout", "0")
    assert "did not come" in cli.refused(*words)
    cli.patch("EdgeNode", "alpha", {"status": {"phase": "Online"}}, "status")
    cli.out(*words)


def test_a_deletion_is_waited_for(cli: CommandLine) -> None:
    cli.node("alpha")
    kind = cli.client.type_of("EdgeNode")
    someone = _meanwhile(lambda: cli.client.delete(kind, cli.project, "alpha"))
    assert cli.out("wait", "node/alpha", "--for", "delete") == "edgenode/alpha: deleted\n"
    someone.join()


def test_an_object_that_is_yet_to_come_is_waited_for(cli: CommandLine) -> None:
    with cli.running("wait", "node/alpha", "--for", "create") as wait:
        cli.node("alpha")
        assert wait.line() == "edgenode/alpha: created"


def test_waiting_for_a_condition_of_nothing_fails_at_once(cli: CommandLine) -> None:
    said = cli.refused("wait", "node/alpha", "--for", "condition=Ready", "--timeout", "1h")
    assert "not found" in said


def test_time_that_runs_out_is_a_failure_with_a_hint(cli: CommandLine) -> None:
    cli.node("alpha")
    said = cli.refused("wait", "node/alpha", "--for", "condition=Ready", "--timeout", "100ms")
    assert "cannot wait longer for edgenode/alpha" in said
    assert "edgevirt describe edgenode/alpha" in said


def test_all_that_a_selector_chooses_are_waited_for(cli: CommandLine) -> None:
    cli.node("alpha", labels={"site": "x"})
    cli.node("beta")
    _condition(cli, "True")
    said = cli.out("wait", "nodes", "-l", "site=x", "--for", "condition=Ready", "--timeout", "0")
    assert said == "edgenode/alpha: condition met\n"


@pytest.mark.parametrize("wanted", ["Ready", "condition=", "jsonpath=", "jsonpath={.a"])
def test_what_cannot_be_waited_for_is_refused(cli: CommandLine, wanted: str) -> None:
    cli.node("alpha")
    assert "cannot " in cli.refused("wait", "node/alpha", "--for", wanted, "--timeout", "0")


@pytest.mark.parametrize("duration", ["", "x", "5y", "1h x"])
def test_a_wrong_duration_is_refused(cli: CommandLine, duration: str) -> None:
    words = ("wait", "node/alpha", "--for", "delete", "--timeout", duration)
    assert "is no duration" in cli.refused(*words)


def test_a_wait_tells_what_is_going_on_and_what_was_last(cli: CommandLine) -> None:
    cli.node("alpha")
    _condition(cli, "False", message="the vault is closed")
    said = cli.refused("wait", "node/alpha", "--for", "condition=Ready", "--timeout", "0")
    assert said.splitlines()[0] == "  alpha  the vault is closed"
    assert "did not come; last: the vault is closed" in said


def test_a_condition_that_no_one_sets_is_answered_with_those_that_are(cli: CommandLine) -> None:
    cli.node("alpha")
    _condition(cli, "True")
    said = cli.refused("wait", "node/alpha", "--for", "condition=Redy", "--timeout", "0")
    assert "there is no condition Redy yet, but Ready" in said
