"""The door: help, wrong words, and how fast it opens."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from edgevirt import __version__
from edgevirt.__main__ import edgevirt
from edgevirt.cli.main import VERBS
from tests.parts.command_line import CommandLine

HEAVY = {"httpx", "yaml", "ssl", "asyncio", "msgspec", "cryptography", "sqlalchemy", "rich"}


def test_help_loads_nothing_that_takes_long() -> None:
    program = (
        "import sys, edgevirt.__main__ as main\n"
        "try: main.edgevirt(['--help'])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "Usage: " in done.stdout
    assert set(done.stderr.split()) & HEAVY == set()


def test_help_groups_the_verbs(cli: CommandLine) -> None:
    lines = cli.run_bare("--help").stdout.splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options:", "Look:", "Change:", "Operate:", "Run:"]


@pytest.mark.parametrize("name", [name for verbs in VERBS.values() for name in verbs])
def test_each_verb_of_the_table_is_there_and_does_what_the_table_says(name: str) -> None:
    context = click.Context(edgevirt, info_name="edgevirt")
    command = edgevirt.get_command(context, name)
    assert command is not None
    assert command.name == name
    summary = next(verbs[name][1] for verbs in VERBS.values() if name in verbs).rstrip(".")
    assert command.help is not None
    verb = command.help.split()[0]
    assert summary.split()[0] == verb


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gte",), "no such command 'gte'. Did you mean 'get'?"),
        (("get", "--colour"), "no such option '--colour'"),
        (("get",), "missing argument"),
        (("top", "things"), "is not one of 'nodes'"),
        (("fleet", "rotate", "all"), "is not one of 'signing'"),
        (("fleet", "run", "--nodes", "here"), "'here' is not HOST:PORT"),
        (("fleet", "init", "--kubeconfig", "/nowhere/config"), "there is no directory /nowhere"),
        (("fleet", "rotate", "tls", "--data", "/nowhere"), "cannot find a fleet in /nowhere"),
        (("node", "run", "--state", "/x", "--config", "/", "--forward", "1"), "is not PORT:PORT"),
    ],
)
def test_wrong_words_are_one_sentence_and_the_way_to_help(
    cli: CommandLine, words: tuple[str, ...], said: str
) -> None:
    result = cli.run_bare(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    first, hint = result.stderr.splitlines()
    assert first.startswith("edgevirt: ")
    assert hint.startswith("  hint: ")


def test_both_versions_are_told_and_ours_without_a_fleet(cli: CommandLine) -> None:
    assert cli.out("version") == f"Client: {__version__}\nFleet:  {__version__}\n"
    alone = cli.run_bare("--kubeconfig", "/nowhere", "version", "--client")
    assert alone.stdout == f"Client: {__version__}\n"


def test_the_fleet_s_directory_may_be_named_by_the_environment(cli: CommandLine) -> None:
    result = cli.run_bare("fleet", "rotate", "tls", env={"EDGEVIRT_FLEET_DATA": "/nowhere"})
    assert "cannot find a fleet in /nowhere" in result.stderr


@pytest.mark.parametrize("words", [(), ("fleet",), ("node",)])
def test_a_group_alone_shows_its_help(cli: CommandLine, words: tuple[str, ...]) -> None:
    result = cli.run_bare(*words)
    assert result.exit_code == 0
    assert "Usage: edgevirt" in result.stdout


def test_a_pipe_that_is_closed_is_no_traceback(cli: CommandLine) -> None:
    for number in range(30):
        cli.node(f"node-{number}")
    config = str(cli.fleet.kubeconfig)
    program = f"{sys.executable} -m edgevirt --kubeconfig {config} -n {cli.project} get nodes"
    done = subprocess.run(
        ["sh", "-c", f"{program} | head -n 1"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "NAME"
    assert done.stderr == ""
