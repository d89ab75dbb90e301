"""Verbs that change objects: what they send, what they say, what they leave alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from edgevirt.client.client import TIMEOUT
from edgevirt.client.errors import Refused
from edgevirt.client.kubeconfig import load_connection
from edgevirt.client.transport import Transport
from tests.parts.command_line import API, CommandLine

ROOT = Path(__file__).parents[3]
APPLY = "application/apply-patch+yaml"


def manifest(name: str, serial: str, **spec: object) -> str:
    body = {
        "apiVersion": API,
        "kind": "EdgeNode",
        "metadata": {"name": name},
        "spec": {"serial": serial, **spec},
    }
    return yaml.safe_dump(body)


def broken(kind: str) -> str:
    """An app that names an image that is not there."""
    body = {
        "apiVersion": API,
        "kind": kind,
        "metadata": {"name": "broken"},
        "spec": {"image": "nowhere"},
    }
    return yaml.safe_dump(body)


# -- apply and create --


def test_apply_makes_then_changes_then_leaves_alone(cli: CommandLine) -> None:
    first, second = manifest("alpha", "s1"), manifest("alpha", "s2")
    assert cli.out("apply", "-f", "-", given=first) == "edgenode/alpha created\n"
    assert cli.out("apply", "-f", "-", given=first) == "edgenode/alpha unchanged\n"
    assert cli.out("apply", "-f", "-", given=second) == "edgenode/alpha configured\n"
    assert cli.get("EdgeNode", "alpha")["spec"]["serial"] == "s2"


def test_a_changed_status_is_no_configuration(cli: CommandLine) -> None:
    cli.out("apply", "-f", "-", given=manifest("alpha", "s1"))
    cli.patch("EdgeNode", "alpha", {"status": {"phase": "Online"}}, "status")
    assert "unchanged" in cli.out("apply", "-f", "-", given=manifest("alpha", "s1"))


def test_a_directory_is_applied_in_order_and_deleted_in_reverse(cli: CommandLine) -> None:
    hello = str(ROOT / "examples/hello")
    made = cli.out("apply", "-f", hello).split()[::2]
    assert made[0] == "edgenode/hello-node"
    assert made[-1] == "appinstance/hello"
    assert cli.out("delete", "-y", "-f", hello).split()[::2] == made[::-1]


def test_the_catalog_s_manifests_are_taken_as_they_are(cli: CommandLine) -> None:
    examples = ROOT / "examples"
    cli.out("apply", "-f", str(examples / "hello"))
    cli.out("apply", "-f", "-", given=manifest("edge-1", "s1"))
    for path in sorted({*examples.glob("*/app.yaml"), *examples.glob("*/volume.yaml")}):
        made = cli.out("apply", "-f", str(path)).splitlines()
        assert all(line.endswith(" created") for line in made)
        assert any(line.startswith(("app/", "volume/")) for line in made)


def test_a_dry_run_changes_nothing(cli: CommandLine) -> None:
    said = cli.out("apply", "--dry-run", "-f", "-", given=manifest("alpha", "s1"))
    assert said == "edgenode/alpha created (dry run)\n"
    with pytest.raises(Refused, match="not found"):
        cli.get("EdgeNode", "alpha")


def test_a_dry_run_warns_of_what_is_not_there_yet(cli: CommandLine) -> None:
    result = cli.run("apply", "--dry-run", "-f", "-", given=broken("App"))
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "nowhere" in result.stderr


def test_one_refused_manifest_does_not_keep_the_others_waiting(cli: CommandLine) -> None:
    given = f"{broken('App')}---\n{manifest('alpha', 's1')}"
    result = cli.run("apply", "-f", "-", given=given)
    assert result.exit_code == 1
    assert "nowhere" in result.stderr
    assert result.stdout == "edgenode/alpha created\n"


def test_a_mistake_in_the_last_file_stops_the_first(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(manifest("alpha", "s1"))
    (tmp_path / "2.yaml").write_text("kind: [")
    assert "2.yaml" in cli.refused("apply", "-f", str(tmp_path))
    assert "there are no edgenodes" in cli.run("get", "nodes").stderr


def test_fields_of_another_manager_are_taken_only_by_force(cli: CommandLine) -> None:
    cli.out("create", "-f", "-", given=manifest("alpha", "s1"))
    kind = cli.client.type_of("EdgeNode")
    path = kind.path(cli.project, "alpha")
    body = yaml.safe_load(manifest("alpha", "s2"))
    other = Transport(load_connection(cli.fleet.kubeconfig), TIMEOUT, warn=print)
    query, headers = {"fieldManager": "other", "force": "true"}, {"Content-Type": APPLY}
    other.json("PATCH", path, params=query, body=body, headers=headers)
    other.close()
    said = cli.refused("apply", "-f", "-", given=manifest("alpha", "s3"))
    assert "other" in said
    assert "--force-conflicts" in said
    cli.out("apply", "--force-conflicts", "-f", "-", given=manifest("alpha", "s3"))


def test_a_manifest_of_another_project_is_not_bent(cli: CommandLine) -> None:
    body = yaml.safe_load(manifest("alpha", "s1"))
    body["metadata"]["namespace"] = "elsewhere"
    said = cli.refused("apply", "-f", "-", given=yaml.safe_dump(body))
    assert "it says namespace elsewhere" in said


def test_a_wrong_api_version_is_answered_with_the_right_one(cli: CommandLine) -> None:
    given = manifest("alpha", "s1").replace("v1alpha1", "v9")
    assert f"its apiVersion is {API}" in cli.refused("apply", "-f", "-", given=given)


def test_a_mistyped_field_is_refused(cli: CommandLine) -> None:
    given = manifest("alpha", "s1", reboots=1)
    assert 'unknown field "spec.reboots"' in cli.refused("apply", "-f", "-", given=given)


def test_create_refuses_a_name_that_is_taken(cli: CommandLine) -> None:
    assert cli.out("create", "-f", "-", given=manifest("alpha", "s1")) == "edgenode/alpha created\n"
    assert "already exists" in cli.refused("create", "-f", "-", given=manifest("alpha", "s1"))


def test_create_tells_the_name_that_the_fleet_made(cli: CommandLine) -> None:
    body = yaml.safe_load(manifest("x", "s1"))
    body["metadata"] = {"generateName": "node-"}
    said = cli.out("create", "-f", "-", given=yaml.safe_dump(body))
    name = said.split()[0].removeprefix("edgenode/")
    assert name.startswith("node-")
    assert cli.get("EdgeNode", name)["spec"]["serial"] == "s1"


# -- patch --


def test_a_patch_changes_what_it_names(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "patched" in cli.out("patch", "node/alpha", "-p", "{metadata: {labels: {a: b}}}")
    assert cli.get("EdgeNode", "alpha")["metadata"]["labels"] == {"a": "b"}
    assert "unchanged" in cli.out("patch", "node/alpha", "-p", "{metadata: {labels: {a: b}}}")


def test_a_json_patch_is_a_list_of_operations(cli: CommandLine) -> None:
    cli.node("alpha")
    change = '[{"op": "replace", "path": "/spec/activate", "value": false}]'
    cli.out("patch", "node/alpha", "--type", "json", "-p", change)
    assert cli.get("EdgeNode", "alpha")["spec"]["activate"] is False
    assert "a list of operations" in cli.refused(
        "patch", "node/alpha", "--type", "json", "-p", "{}"
    )
    assert "is an object" in cli.refused("patch", "node/alpha", "-p", "[]")


def test_an_unreadable_patch_is_refused(cli: CommandLine) -> None:
    cli.node("alpha")
    assert "cannot read the patch" in cli.refused("patch", "node/alpha", "-p", "{")


# -- diff --


def test_diff_tells_new_changed_and_same_by_its_exit_status(cli: CommandLine) -> None:
    result = cli.run("diff", "-f", "-", given=manifest("alpha", "s1"))
    assert result.exit_code == 1
    assert "+  serial: s1" in result.stdout
    cli.out("apply", "-f", "-", given=manifest("alpha", "s1"))
    assert cli.run("diff", "-f", "-", given=manifest("alpha", "s1")).exit_code == 0
    result = cli.run("diff", "-f", "-", given=manifest("alpha", "s2"))
    assert result.exit_code == 1
    assert [line for line in result.stdout.splitlines() if line[:3] not in ("---", "+++")][1:] != []
    assert "-  serial: s1\n+  serial: s2\n" in result.stdout


def test_a_diff_that_cannot_be_made_is_no_difference(cli: CommandLine) -> None:
    result = cli.run("diff", "-f", "-", given=manifest("alpha", "s1", nope=1))
    assert result.exit_code == 2
    assert "unknown field" in result.stderr


# -- edit --


def editor(tmp_path: Path, *steps: str) -> dict[str, str]:
    """An editor that does the next step (sed's) each time it is opened."""
    path = tmp_path / "editor"
    for number, step in enumerate(steps):
        (tmp_path / f"step-{number}").write_text(step)
    count = tmp_path / "count"
    count.write_text("0")
    path.write_text(
        f"""#!/bin/sh
n=$(cat {count}); echo $((n + 1)) > {count}
cp "$1" {tmp_path}/seen-$n
[ -e {tmp_path}/step-$n ] || exit 0
sed -i -f {tmp_path}/step-$n "$1"
touch -d '+1 minute' "$1"
"""
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"EDITOR": str(path), "VISUAL": ""}


def test_an_edit_is_kept(cli: CommandLine, tmp_path: Path) -> None:
    cli.node("alpha")
    env = editor(tmp_path, "s/activate: true/activate: false/")
    result = cli.run("edit", "node/alpha", env=env)
    assert result.stdout == "edgenode/alpha edited\n", result.stderr
    assert cli.get("EdgeNode", "alpha")["spec"]["activate"] is False
    shown = (tmp_path / "seen-0").read_text()
    assert "managedFields" not in shown
    assert "status" not in shown


def test_an_editor_that_saves_nothing_changes_nothing(cli: CommandLine, tmp_path: Path) -> None:
    cli.node("alpha")
    result = cli.run("edit", "node/alpha", env=editor(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "nothing was changed\n")


def test_what_the_fleet_refuses_comes_up_again_with_the_reason(
    cli: CommandLine, tmp_path: Path
) -> None:
    cli.node("alpha")
    env = editor(
        tmp_path, "s/rebootCounter: 0/rebootCounter: -1/", "s/rebootCounter: -1/rebootCounter: 7/"
    )
    result = cli.run("edit", "node/alpha", env=env)
    assert result.stdout == "edgenode/alpha edited\n", result.stderr
    assert cli.get("EdgeNode", "alpha")["spec"]["rebootCounter"] == 7
    again = (tmp_path / "seen-1").read_text()
    assert again.startswith("# EdgeNode.edgevirt.io")
    assert "rebootCounter: -1" in again


def test_what_cannot_be_kept_is_not_lost(cli: CommandLine, tmp_path: Path) -> None:
    cli.node("alpha")
    env = editor(tmp_path, "s/rebootCounter: 0/rebootCounter: -1/")
    said = cli.run("edit", "node/alpha", env=env)
    assert said.exit_code == 1
    path = Path(said.stderr.split("what you wrote is in ")[1].strip())
    assert "rebootCounter: -1" in path.read_text()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    path.unlink()


def test_an_edit_cannot_become_another_object(cli: CommandLine, tmp_path: Path) -> None:
    cli.node("alpha")
    env = editor(tmp_path, "s/name: alpha/name: beta/", "s/name: beta/name: alpha/")
    result = cli.run("edit", "node/alpha", env=env)
    assert result.exit_code == 1
    assert "the name of an object cannot be changed" in result.stderr


# -- delete --


def test_delete_asks_and_a_no_keeps_the_object(cli: CommandLine) -> None:
    cli.node("alpha")
    result = cli.run("delete", "node/alpha", given="n\n")
    assert result.exit_code == 1
    assert "delete edgenode/alpha?" in result.stderr
    assert cli.get("EdgeNode", "alpha")
    assert cli.out("delete", "node/alpha", given="y\n") == "edgenode/alpha deleted\n"


def test_nobody_there_to_answer_means_no(cli: CommandLine) -> None:
    cli.node("alpha")
    said = cli.refused("delete", "node/alpha")
    assert "-y answers yes" in said
    assert cli.get("EdgeNode", "alpha")


def test_yes_can_be_said_beforehand(cli: CommandLine) -> None:
    cli.node("alpha")
    assert cli.out("delete", "nodes", "alpha", "-y") == "edgenode/alpha deleted\n"


def test_a_selector_deletes_what_it_chooses(cli: CommandLine) -> None:
    cli.node("alpha", labels={"site": "x"})
    cli.node("beta")
    assert cli.out("delete", "nodes", "-l", "site=x", "-y") == "edgenode/alpha deleted\n"
    assert cli.get("EdgeNode", "beta")
    assert cli.run("delete", "nodes", "-l", "site=x", "-y").exit_code == 0


def test_what_is_in_use_stays_and_says_by_whom(cli: CommandLine) -> None:
    cli.node("alpha")
    cli.app_on("alpha")
    result = cli.run("delete", "app/hello", "-y")
    assert result.stdout == "app/hello is being deleted, waits for what uses it to go\n"
    assert 'in use by AppInstance "hello"' in result.stderr
    assert cli.get("App", "hello")
    assert cli.out("delete", "instance/hello", "-y") == "appinstance/hello deleted\n"
    assert "not found" in cli.refused("get", "app/hello")


def test_gone_already_is_fine_only_when_asked_for(cli: CommandLine) -> None:
    assert "not found" in cli.refused("delete", "node/alpha", "-y")
    assert cli.out("delete", "node/alpha", "-y", "--ignore-not-found") == ""


def test_what_waits_for_finalizers_is_not_called_deleted(cli: CommandLine) -> None:
    cli.node("alpha", finalizers=["example.com/drain"])
    said = cli.out("delete", "node/alpha", "-y")
    assert said == "edgenode/alpha is being deleted, waits for example.com/drain\n"
    assert "waits for example.com/drain" in cli.out("describe", "node/alpha")
    cli.patch("EdgeNode", "alpha", {"metadata": {"finalizers": None}})


def test_what_goes_along_with_its_user_is_not_missed(cli: CommandLine) -> None:
    hello = str(ROOT / "examples/hello")
    cli.out("apply", "-f", hello)
    assert "waits for" in cli.out("delete", "-y", "image/hello")
    said = cli.out("delete", "-y", "-f", hello)
    assert "image/hello deleted\n" in said
    assert "not found" in cli.refused("delete", "-y", "-f", hello)


def test_deleting_nothing_in_particular_is_refused(cli: CommandLine) -> None:
    assert "no name and no file given" in cli.refused("delete")
    assert "cannot tell which edgenodes are meant" in cli.refused("delete", "nodes", "-y")


def test_what_apply_is_refused_says_of_which_object(cli: CommandLine) -> None:
    said = cli.refused("apply", "-f", "-", given=manifest("alpha", "a", seriel="b"))
    assert said.startswith("edgevirt: edgenode/alpha: strict decoding error: ")
    assert 'did you mean "serial"?' in said


def test_each_flaw_of_an_object_has_a_line_of_its_own(cli: CommandLine) -> None:
    body = {"apiVersion": API, "kind": "App", "metadata": {"name": "a"}}
    flawed = {**body, "spec": {"image": "", "resources": {"cpu": 0, "memory": "lots"}}}
    said = cli.refused("apply", "-f", "-", given=yaml.safe_dump(flawed)).splitlines()
    assert said[0].endswith('App.edgevirt.io "a" is invalid:')
    assert any(line.startswith("  spec.resources.cpu: ") for line in said)
    assert any(line.startswith("  spec.resources.memory: ") for line in said)


def test_an_empty_manifest_is_no_success(cli: CommandLine) -> None:
    for verb in ("apply", "create"):
        assert "all of it is empty" in cli.refused(verb, "-f", "-", given="---\n")


def test_what_is_applied_and_being_deleted_is_told(cli: CommandLine) -> None:
    text = manifest("alpha", "alpha")
    cli.out("apply", "-f", "-", given=text)
    cli.patch("EdgeNode", "alpha", {"metadata": {"finalizers": ["example.com/drain"]}})
    cli.out("delete", "node/alpha", "-y")
    result = cli.run("apply", "-f", "-", given=text)
    assert "edgenode/alpha is being deleted and waits for example.com/drain" in result.stderr
    assert cli.out("get", "nodes").splitlines()[1].endswith("(being deleted)")
    cli.patch("EdgeNode", "alpha", {"metadata": {"finalizers": None}})


def test_nobody_is_asked_about_deleting_what_is_not_there(cli: CommandLine) -> None:
    said = cli.refused("delete", "node/alpha", given="y\n")
    assert "not found" in said
    assert "[y/N]" not in said


def test_an_editor_that_is_not_there_is_named(cli: CommandLine) -> None:
    cli.node("alpha")
    result = cli.run("edit", "node/alpha", env={"EDITOR": "no-such-editor", "VISUAL": ""})
    assert result.exit_code == 1
    assert "cannot open an editor: no-such-editor" in result.stderr
    assert "set VISUAL or EDITOR" in result.stderr
