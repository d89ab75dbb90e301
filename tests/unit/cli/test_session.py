"""What every verb shares: where the fleet is, who one is, which words mean what."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

from edgevirt.fleet.keys import KeyRing
from edgevirt.fleet.operators.kubeconfig import write_kubeconfig
from edgevirt.fleet.operators.roles import VIEWERS, User
from edgevirt.runtime import RealClock
from tests.parts.command_line import CommandLine


def fails(cli: CommandLine, *words: str) -> str:
    """What a call says that must fail; without the tests' own kubeconfig."""
    result = cli.run_bare(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith("edgevirt: cannot ")
    assert len(lines) <= 2
    return result.stderr


@pytest.mark.parametrize(
    "word", ["edgenodes", "EdgeNode", "en", "nodes", "Node", "edgenodes.edgevirt.io"]
)
def test_a_kind_answers_to_all_its_words(cli: CommandLine, word: str) -> None:
    cli.node("alpha")
    assert "alpha" in cli.out("get", word)


def test_a_mistyped_kind_is_answered_with_the_right_one(cli: CommandLine) -> None:
    said = cli.refused("get", "noeds")
    assert "cannot find a kind called 'noeds'" in said
    assert "did you mean nodes?" in said


def test_a_word_that_is_near_nothing_is_answered_with_all_kinds(cli: CommandLine) -> None:
    assert "there are appinstances, apps" in cli.refused("get", "xyzzy")


def test_a_kind_of_another_group_is_not_taken_for_ours(cli: CommandLine) -> None:
    assert "cannot find a kind" in cli.refused("get", "edgenodes.example.com")


@pytest.mark.parametrize("word", ["node/", "/alpha", "node/a/b"])
def test_half_a_name_is_refused(cli: CommandLine, word: str) -> None:
    assert "give each as TYPE/NAME" in cli.refused("get", word)


def test_a_kind_among_names_is_refused(cli: CommandLine) -> None:
    assert "give each as TYPE/NAME" in cli.refused("get", "node/alpha", "beta")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_an_empty_name_never_means_all_objects(cli: CommandLine, name: str) -> None:
    cli.node("alpha")
    for words in (("get", "nodes"), ("delete", "-y", "nodes"), ("describe", "nodes")):
        assert f"cannot use {name!r} as a name" in cli.refused(*words, name)
    assert cli.get("EdgeNode", "alpha")


# -- the kubeconfig --


def test_without_a_kubeconfig_one_is_told_how_to_get_one(cli: CommandLine) -> None:
    said = fails(cli, "--kubeconfig", "/nowhere/config", "get", "nodes")
    assert "there is no kubeconfig at /nowhere/config" in said
    assert "edgevirt fleet init" in said


def test_the_environment_names_the_kubeconfig(cli: CommandLine) -> None:
    env = {"KUBECONFIG": f"/nowhere/config:{cli.fleet.kubeconfig}"}
    cli.node("alpha")
    result = cli.run_bare("get", "nodes", "-n", cli.project, env=env)
    assert "alpha" in result.stdout


def test_a_context_that_is_not_there_is_answered_with_those_that_are(cli: CommandLine) -> None:
    config = str(cli.fleet.kubeconfig)
    said = fails(cli, "get", "nodes", "--kubeconfig", config, "--context", "staging")
    assert "no context 'staging'" in said
    assert "it has edgevirt" in said


def test_a_fleet_that_is_away_is_one_sentence(cli: CommandLine, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        moved = tmp_path / "kubeconfig"
        config = yaml.safe_load(cli.fleet.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        moved.write_text(yaml.safe_dump(config))
        said = fails(cli, "--kubeconfig", str(moved), "get", "nodes")
    assert f"cannot reach the fleet at https://127.0.0.1:{port}" in said
    assert "is it running" in said


def test_another_fleets_kubeconfig_is_not_trusted(cli: CommandLine, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "keys", ["127.0.0.1"], RealClock()).keys
    write_kubeconfig(tmp_path / "config", cli.fleet.url, other.root.pem + b"\n", "token")
    said = fails(cli, "--kubeconfig", str(tmp_path / "config"), "get", "nodes")
    assert "cannot trust the fleet" in said
    assert "another fleet's" in said


def test_a_token_that_is_not_known_is_refused_in_words(cli: CommandLine, tmp_path: Path) -> None:
    root = cli.fleet.ring.keys.root.pem + b"\n"
    write_kubeconfig(tmp_path / "config", cli.fleet.url, root, "not-a-token")
    said = fails(cli, "--kubeconfig", str(tmp_path / "config"), "get", "nodes")
    assert "cannot log in to the fleet" in said


def test_a_token_is_as_good_as_a_certificate(cli: CommandLine, tmp_path: Path) -> None:
    root = cli.fleet.ring.keys.root.pem + b"\n"
    token = cli.fleet.tokens.add(User("tom", (VIEWERS,)))
    write_kubeconfig(tmp_path / "config", cli.fleet.url, root, token)
    result = cli.run_bare("--kubeconfig", str(tmp_path / "config"), "get", "namespaces")
    assert cli.project in result.stdout


def test_what_a_viewer_may_not_do_is_refused_and_not_done(cli: CommandLine) -> None:
    cli.node("alpha")
    words = ("--kubeconfig", str(cli.fleet.viewer), "-n", cli.project)
    assert "alpha" in cli.run_bare(*words, "get", "nodes").stdout
    result = cli.run_bare(*words, "delete", "node/alpha", "-y")
    assert result.exit_code == 1
    assert 'User "vic" cannot delete' in result.stderr
    assert "hint: who runs the fleet gives more rights" in result.stderr
    assert cli.get("EdgeNode", "alpha")


def test_a_word_of_kubernetes_is_answered_with_ours(cli: CommandLine) -> None:
    assert "here it is instances" in cli.refused("get", "pods")
