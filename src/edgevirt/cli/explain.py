"""explain and api-resources: what the fleet serves, and what its fields mean."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

import click

from edgevirt.cli.completing import complete_kind
from edgevirt.cli.session import Session, fail
from edgevirt.cli.tables import echo_table
from edgevirt.cli.verb import Verb

if TYPE_CHECKING:
    from edgevirt.cli.schemas import Schema, Schemas
    from edgevirt.client.resources import ResourceType


@click.command(cls=Verb)
@click.argument("path", metavar="TYPE[.FIELD…]", shell_complete=complete_kind)
@click.option("-r", "--recursive", is_flag=True, help="All fields below, without their texts.")
@click.pass_obj
def explain(session: Session, path: str, recursive: bool) -> None:
    """Tell what a kind's fields mean.

    Such as `edgevirt explain app.spec.interfaces`.
    """
    from edgevirt.cli.schemas import Schemas

    kind, *steps = path.split(".")
    type_ = session.type_of(kind)
    document = session.client.read(f"/openapi/v3{type_.root}")
    schemas = Schemas(document)
    schema = schemas.kind(type_.api_version, type_.kind)
    if schema is None:
        fail(f"cannot explain {type_.plural}: the fleet publishes no schema of it")
    found, title, text = _descend(schemas, schema, steps, path)
    _head(type_, ".".join(steps), title)
    _paragraphs(text or schemas.text(found))
    _fields(schemas, found, recursive=recursive)


def _descend(
    schemas: Schemas, schema: Schema, steps: list[str], path: str
) -> tuple[Schema, str, str]:
    """The schema at a path, its type and its text."""
    title, text = "", ""
    for step in steps:
        fields = {field.name: field for field in schemas.fields(schema)}
        if step not in fields:
            there = ", ".join(sorted(fields)) or "nothing below it"
            fail(f"cannot explain {path}: there is no field {step!r}", f"there is {there}")
        field = fields[step]
        schema, title, text = field.schema, field.type, field.text
        if field.notes:
            text += f" ({field.notes})"
    return schema, title, text


def _head(type_: ResourceType, field: str, title: str) -> None:
    for name, value in (
        ("Kind", type_.kind),
        ("Version", type_.api_version),
        ("Field", f"{field} <{title}>" if field else ""),
    ):
        if value:
            click.echo(click.style(f"{name}:".ljust(11), bold=True) + value)
    click.echo()


def _paragraphs(text: str, indent: str = "") -> None:
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    for paragraph in text.split("\n\n"):
        click.echo(textwrap.fill(paragraph, width, initial_indent=indent, subsequent_indent=indent))


def _fields(schemas: Schemas, schema: Schema, *, recursive: bool) -> None:
    if recursive:
        click.echo()
        for depth, field in schemas.walk(schema):
            click.echo(f"{'  ' * (depth + 1)}{click.style(field.name, bold=True)} <{field.type}>")
        return
    for field in schemas.fields(schema):
        notes = f"  {field.notes}" if field.notes else ""
        click.echo(f"\n  {click.style(field.name, bold=True)} <{field.type}>{notes}")
        _paragraphs(field.text, "    ")


@click.command("api-resources", cls=Verb)
@click.pass_obj
def api_resources(session: Session) -> None:
    """List the kinds that the fleet serves."""
    echo_table(
        ("name", "shortnames", "apiversion", "namespaced", "kind"),
        [
            (
                type_.plural,
                ",".join(type_.short_names),
                type_.api_version,
                str(type_.namespaced).lower(),
                type_.kind,
            )
            for type_ in session.client.types()
        ],
    )
