"""What the shell completes: kinds and names from the fleet; nothing, quietly, without one."""

from __future__ import annotations

import time

import pytest

from tests.parts.command_line import CommandLine


def completed(cli: CommandLine, *words: str, bare: bool = False) -> list[str]:
    """For the last word, as bash asks for it."""
    where = [] if bare else ["--kubeconfig", str(cli.fleet.kubeconfig), "-n", cli.project]
    typed = ["edgevirt", *where, *words]
    env = {
        "_EDGEVIRT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(typed),
        "COMP_CWORD": str(len(typed) - 1),
    }
    result = cli.run_bare(env=env)
    assert (result.exit_code, result.stderr) == (0, "")
    return [line.split(",", 1)[1] for line in result.stdout.splitlines() if line]


def test_verbs_are_completed(cli: CommandLine) -> None:
    assert completed(cli, "de") == ["describe", "delete", "deny"]


def test_kinds_are_completed_also_in_a_list(cli: CommandLine) -> None:
    assert completed(cli, "get", "no") == ["nodes"]
    assert completed(cli, "get", "nodes,edgen") == ["nodes,edgenodes"]


def test_names_of_the_kind_are_completed(cli: CommandLine) -> None:
    for name in ("alpha", "alto", "beta"):
        cli.node(name)
    assert completed(cli, "describe", "node", "al") == ["alpha", "alto"]
    assert completed(cli, "describe", "node/al") == ["node/alpha", "node/alto"]
    assert completed(cli, "reboot", "b") == ["beta"]


def test_what_has_a_log_is_completed(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    assert completed(cli, "logs", "") == ["hello", "node/"]
    assert completed(cli, "logs", "node/") == ["node/alpha"]


def test_projects_are_completed(cli: CommandLine) -> None:
    assert cli.project in completed(cli, "get", "nodes", "-n", "project-")


@pytest.mark.parametrize(
    "words",
    [
        ("--kubeconfig", "/nowhere", "get", "n"),
        ("--kubeconfig", "/nowhere", "restart", "h"),
        ("--kubeconfig", "/etc/hostname", "logs", "h"),
    ],
)
def test_without_a_fleet_there_is_nothing_and_no_word_of_it(
    cli: CommandLine, words: tuple[str, ...]
) -> None:
    assert completed(cli, *words, bare=True) == []


def test_a_kind_that_is_not_there_has_no_names(cli: CommandLine) -> None:
    assert completed(cli, "describe", "nothing", "x") == []


def test_a_fleet_that_does_not_answer_is_not_waited_for(
    cli: CommandLine, silent_kubeconfig: str
) -> None:
    began = time.monotonic()
    assert completed(cli, "--kubeconfig", silent_kubeconfig, "get", "n", bare=True) == []
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(cli: CommandLine, shell: str) -> None:
    assert "_EDGEVIRT_COMPLETE" in cli.out("completion", shell)
