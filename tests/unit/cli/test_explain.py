"""explain: the same words as the code has beside its fields."""

from __future__ import annotations

from tests.parts.command_line import CommandLine


def test_a_kind_is_explained_with_its_fields_and_their_types(cli: CommandLine) -> None:
    lines = cli.out("explain", "app").splitlines()
    assert lines[0].split() == ["Kind:", "App"]
    assert "  spec <AppSpec>" in lines
    assert "    What to run, and with what." in lines


def test_a_list_is_told_from_an_object(cli: CommandLine) -> None:
    text = cli.out("explain", "app.spec.interfaces")
    assert "spec.interfaces <[]AppInterface>" in text
    assert "ports <[]PortMap>" in text


def test_choices_and_defaults_are_told(cli: CommandLine) -> None:
    assert '  type <string>  default "Container"' in cli.out("explain", "app.spec").splitlines()
    text = cli.out("explain", "node.status.conditions")
    assert "  status <string>  required; one of False, True, Unknown" in text.splitlines()


def test_all_fields_below_are_listed_when_asked(cli: CommandLine) -> None:
    lines = cli.out("explain", "instances", "--recursive").splitlines()
    at = lines.index("  spec <AppInstanceSpec>")
    assert lines[at + 1] == "    app <string>"


def test_a_wrong_field_is_answered_with_the_right_ones(cli: CommandLine) -> None:
    said = cli.refused("explain", "app.spec.interface")
    assert "there is no field 'interface'" in said
    assert "interfaces" in said.splitlines()[1]


def test_below_a_scalar_there_is_nothing(cli: CommandLine) -> None:
    assert "there is nothing below it" in cli.refused("explain", "app.spec.image.x")


def test_core_kinds_are_explained_too(cli: CommandLine) -> None:
    assert "stringData <map[string]string>" in cli.out("explain", "secret")


def test_the_kinds_are_listed_with_all_their_names(cli: CommandLine) -> None:
    rows = [line.split() for line in cli.out("api-resources").splitlines()]
    assert ["edgenodes", "en", "edgevirt.io/v1alpha1", "true", "EdgeNode"] in rows
    assert ["namespaces", "ns", "v1", "false", "Namespace"] in rows
