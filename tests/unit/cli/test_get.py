"""get: tables, whole objects, and what changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import yaml

from edgevirt.cli import get
from edgevirt.cli.session import Session, Target
from edgevirt.client.client import Client
from edgevirt.client.errors import Refused
from edgevirt.client.kubeconfig import load_connection
from edgevirt.client.resources import Object
from tests.parts.command_line import CommandLine


def _words(line: str) -> list[str]:
    return line.split()


def test_a_kind_is_a_table_with_the_fleets_columns(cli: CommandLine) -> None:
    cli.node("alpha")
    header, row = cli.out("get", "nodes").splitlines()
    assert _words(header)[:3] == ["NAME", "SERIAL", "STATE"]
    assert _words(row)[:3] == ["alpha", f"{cli.project}-alpha", "Pending"]


def test_wide_shows_the_columns_that_are_hidden_else(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "ADDRESSES" not in cli.out("get", "nodes")
    assert "ADDRESSES" in cli.out("get", "nodes", "-o", "wide")


def test_columns_of_ones_own_are_found_by_their_paths(cli: CommandLine) -> None:
    cli.node("alpha", labels={"site": "berlin"})
    cli.node("beta")
    columns = "N:.metadata.name,SITE:{.metadata.labels.site},KIND:kind"
    lines = cli.out("get", "nodes", "-o", f"custom-columns={columns}").splitlines()
    assert [_words(line) for line in lines] == [
        ["N", "SITE", "KIND"],
        ["alpha", "berlin", "EdgeNode"],
        ["beta", "<none>", "EdgeNode"],
    ]
    assert "cannot read the column" in cli.refused("get", "nodes", "-o", "custom-columns=.kind")


def test_what_is_shown_can_be_put_in_order(cli: CommandLine) -> None:
    for name, cpus in (("alpha", 16), ("beta", 2), ("gamma", 4)):
        cli.node(name)
        cli.patch("EdgeNode", name, {"status": {"cpus": cpus}}, "status")
    shown = cli.out("get", "nodes", "--no-headers", "--sort-by", ".status.cpus").splitlines()
    assert [_words(line)[0] for line in shown] == ["beta", "gamma", "alpha"]
    named = cli.out("get", "nodes", "-o", "name", "--sort-by", "{.status.cpus}").split()
    assert named == ["edgenode/beta", "edgenode/gamma", "edgenode/alpha"]


def test_a_narrow_terminal_cuts_no_column(cli: CommandLine) -> None:
    name = "a-node-with-a-name-that-is-longer-than-any-terminal-of-forty-columns-is-wide"
    cli.node(name)
    result = cli.run("get", "nodes", "-o", "wide", env={"COLUMNS": "40"})
    assert name in result.stdout
    assert len(result.stdout.splitlines()) == 2


def test_several_kinds_are_several_tables_whose_names_tell_the_kind(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    nodes, apps = cli.out("get", "nodes,apps").split("\n\n")
    assert "edgenode/alpha" in nodes
    assert "app/hello" in apps


def test_objects_of_different_kinds_can_be_named_at_once(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    shown = cli.out("get", "node/alpha", "app/hello", "-o", "name")
    assert shown.split() == ["edgenode/alpha", "app/hello"]


def test_a_missing_name_is_told_and_the_others_are_shown(cli: CommandLine) -> None:
    cli.node("alpha")
    result = cli.run("get", "nodes", "alpha", "beta")
    assert result.exit_code == 1
    assert "alpha" in result.stdout
    assert '"beta" not found' in result.stderr
    assert "edgevirt get edgenodes" in result.stderr


def test_nothing_there_is_no_error_and_names_the_project(cli: CommandLine) -> None:
    result = cli.run("get", "nodes")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"there are no edgenodes in project {cli.project}\n"


def test_a_label_selector_chooses(cli: CommandLine) -> None:
    cli.node("alpha", labels={"site": "hamburg"})
    cli.node("beta", labels={"site": "berlin"})
    shown = cli.out("get", "nodes", "-l", "site=berlin", "--show-labels", "--no-headers")
    assert shown.startswith("beta ")
    assert shown.rstrip().endswith("site=berlin")


def test_all_projects_are_told_apart(cli: CommandLine) -> None:
    cli.node("alpha")
    lines = cli.out("get", "nodes", "-A").splitlines()
    assert _words(lines[0])[0] == "NAMESPACE"
    assert [cli.project, "alpha"] in [_words(line)[:2] for line in lines]


def test_the_project_may_stand_behind_the_verb(cli: CommandLine) -> None:
    cli.node("alpha")
    config = str(cli.fleet.kubeconfig)
    result = cli.run_bare("get", "nodes", "--kubeconfig", config, "-n", cli.project)
    assert "alpha" in result.stdout


@pytest.mark.parametrize(("form", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_whole_object_can_be_read_by_programs_and_has_no_managed_fields(
    cli: CommandLine, form: str, parse: object
) -> None:
    cli.node("alpha")
    assert callable(parse)
    body = parse(cli.out("get", "node/alpha", "-o", form))
    assert (body["kind"], body["metadata"]["name"]) == ("EdgeNode", "alpha")
    assert "managedFields" not in body["metadata"]
    whole = parse(cli.out("get", "node/alpha", "-o", form, "--show-managed-fields"))
    assert whole["metadata"]["managedFields"]


def test_several_whole_objects_are_a_list_that_apply_takes(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.node("beta")
    listed = cli.out("get", "nodes", "-o", "yaml")
    assert yaml.safe_load(listed)["kind"] == "List"
    assert cli.run("diff", "-f", "-", given=listed).exit_code in (0, 1)


def test_a_json_path_shows_single_values(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.node("beta")
    shown = cli.out("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
    assert shown.split() == ["alpha", "beta"]


def test_an_unknown_form_is_refused(cli: CommandLine) -> None:
    assert "'xml' is none of" in cli.refused("get", "nodes", "-o", "xml")
    assert "needs a template" in cli.refused("get", "nodes", "-o", "jsonpath")


def test_names_cannot_be_looked_for_everywhere(cli: CommandLine) -> None:
    assert "cannot look for names in all projects" in cli.refused("get", "nodes", "alpha", "-A")


def test_a_watch_tells_what_is_what_changes_and_what_goes(cli: CommandLine) -> None:
    cli.node("alpha")
    with cli.running("get", "nodes", "-w") as watch:
        watch.line("NAME")
        watch.line("alpha")
        cli.patch("EdgeNode", "alpha", {"status": {"phase": "Online"}}, "status")
        assert "Online" in watch.line("alpha")
        cli.node("beta")
        watch.line("beta")
        cli.client.delete(cli.client.type_of("EdgeNode"), cli.project, "alpha")
        assert watch.line("alpha").endswith("(deleted)")


def test_ctrl_c_ends_a_watch_without_noise(cli: CommandLine) -> None:
    cli.node("alpha")
    with cli.running("get", "nodes", "-w") as watch:
        watch.line("alpha")
        code, said = watch.interrupt()
    assert (code, said.strip()) == (130, "")


def test_a_watch_of_one_name_is_silent_about_others(cli: CommandLine) -> None:
    cli.node("alpha")
    with cli.running("get", "node/alpha", "-w", "-o", "name") as watch:
        assert watch.line() == "edgenode/alpha"
        cli.node("beta")
        cli.patch("EdgeNode", "alpha", {"status": {"phase": "Online"}}, "status")
        assert watch.line() == "edgenode/alpha"


def test_a_watch_of_a_name_that_is_not_there_says_so(cli: CommandLine) -> None:
    assert "not found" in cli.refused("get", "node/alpha", "-w")


def test_several_kinds_cannot_be_watched_at_once(cli: CommandLine) -> None:
    assert "cannot watch several kinds" in cli.refused("get", "nodes,apps", "-w")


class Interrupted(Client):
    """Watches that end: first as the fleet ends them, then as too old to go on, then for good."""

    since: ClassVar[list[str]] = []

    def watch(self, *args: Any, since: str = "", **more: Any) -> Iterator[Object]:
        self.since.append(since)
        if len(self.since) == 2:
            raise Refused(410, "Expired", "too old")
        if len(self.since) == 4:
            raise KeyboardInterrupt
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}, "rows": []}}


def test_a_watch_goes_on_where_it_was_and_tells_all_anew_when_it_cannot(
    cli: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.node("alpha")
    with Session(str(cli.fleet.kubeconfig), namespace=cli.project) as session:
        client = Interrupted(load_connection(cli.fleet.kubeconfig))
        session.client = client
        with pytest.raises(KeyboardInterrupt):
            get.Watch(session, Target(client.type_of("edgenodes")), get.How()).run()
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["NAME", "alpha", "alpha"]
    first, second, third, fourth = Interrupted.since
    assert int(first) > 0
    assert second == "7"
    assert int(third) >= int(first)
    assert fourth == "7"


def test_a_selector_that_matches_nothing_is_named(cli: CommandLine) -> None:
    cli.node("alpha")
    result = cli.run("get", "nodes", "-l", "site=x")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.rstrip().endswith("that match 'site=x'")
