"""Verbs that look: get, describe, events, explain, api-resources, wait."""

from __future__ import annotations

import re
import time

import click
from rich.table import Table

from edgevirt.cli.session import Session, out, reference, show_object, show_table, verb
from edgevirt.client import ClientError, Object, ResourceType

FORMS = click.Choice(["wide", "yaml", "json", "name"])


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE [NAME…] | TYPE/NAME…")
@click.option("-o", "--output", "form", type=FORMS)
@click.option("-l", "--selector", "labels", default="", help="Label selector: a=b,c in (d,e).")
@click.option("--field-selector", "fields", default="", help="metadata.name=x, spec.edgeNode=y.")
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-w", "--watch", is_flag=True, help="Go on telling what changes.")
@click.pass_obj
@verb
def get(
    session: Session,
    words: tuple[str, ...],
    form: str | None,
    labels: str,
    fields: str,
    all_namespaces: bool,
    watch: bool,
) -> None:
    """Show objects as a table, or whole with -o yaml|json."""
    type_, names = session.target(words)
    scope = session.scope(type_, all_namespaces)
    if form in (None, "wide"):
        tables = [
            session.client.table(type_, scope, name, labels=labels, fields=fields)
            for name in names or ("",)
        ]
        tables[0]["rows"] = [row for table in tables for row in table["rows"]]
        many = all_namespaces and type_.namespaced
        if tables[0]["rows"] or watch:
            show_table(tables[0], wide=form == "wide", with_namespace=many)
        else:
            click.echo(f"no {type_.plural} in {scope or 'any project'}", err=True)
        if watch:
            since = tables[0]["metadata"].get("resourceVersion", "")
            _follow(session, type_, scope, names, labels, fields, since)
        return
    bodies = [session.client.get(type_, scope, name) for name in names]
    if not names:
        answer = session.client.list(type_, scope, labels=labels, fields=fields)
        bodies = answer["items"]
    if form == "name":
        for body in bodies:
            click.echo(reference(_typed(body, type_)))
    elif len(names) == 1:
        show_object(bodies[0], form or "yaml")
    else:
        items = [_typed(body, type_) for body in bodies]
        show_object({"apiVersion": "v1", "kind": "List", "items": items}, form or "yaml")


def _typed(body: Object, type_: ResourceType) -> Object:
    return {"apiVersion": type_.api_version, "kind": type_.kind, **body}


def _follow(
    session: Session,
    type_: ResourceType,
    scope: str | None,
    names: tuple[str, ...],
    labels: str,
    fields: str,
    since: str,
) -> None:
    events = session.client.watch(type_, scope, labels=labels, fields=fields, since=since)
    for event in events:
        body = event["object"]
        name = body.get("metadata", {}).get("name", "")
        if event["type"] == "BOOKMARK" or (names and name not in names):
            continue
        if event["type"] == "DELETED":
            click.echo(f"{name}  deleted")
            continue
        table = session.client.table(type_, scope, name)
        show_table(table, wide=False, with_namespace=False, header=False)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE/NAME | TYPE NAME")
@click.pass_obj
@verb
def describe(session: Session, words: tuple[str, ...]) -> None:
    """Tell all about one object, and what happened to it lately."""
    type_, name = session.one(words)
    scope = session.scope(type_)
    body = session.client.get(type_, scope, name)
    meta = body["metadata"]
    out.print(f"[bold]Name:[/]       {meta['name']}")
    if scope:
        out.print(f"[bold]Namespace:[/]  {scope}")
    for title, values in (("Labels", meta.get("labels")), ("Annotations", meta.get("annotations"))):
        text = ", ".join(f"{k}={v}" for k, v in (values or {}).items()) or "<none>"
        out.print(f"[bold]{title + ':':<12}[/]{text}", markup=True)
    out.print(f"[bold]Created:[/]    {meta.get('creationTimestamp', '')}")
    for part in ("spec", "status"):
        if body.get(part):
            out.print(f"[bold]{part.capitalize()}:[/]")
            _outline(body[part], 1)
    _events(session, scope, f"involvedObject.name={name},involvedObject.kind={type_.kind}")


def _outline(value: object, depth: int) -> None:
    pad = "  " * depth
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list) and inner:
                click.echo(f"{pad}{_title(key)}:")
                _outline(inner, depth + 1)
            else:
                click.echo(f"{pad}{_title(key)}: {_plain(inner)}")
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                first, *others = inner.items()
                click.echo(f"{pad}- {_title(first[0])}: {_plain(first[1])}")
                _outline(dict(others), depth + 1)
            else:
                click.echo(f"{pad}- {_plain(inner)}")


def _title(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key[:1].upper() + key[1:])


def _plain(value: object) -> str:
    if value in (None, "", [], {}):
        return "<none>"
    if isinstance(value, str) and "\n" in value:
        return value.splitlines()[0] + " …"
    return str(value)


@click.command()
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("--for", "about", metavar="TYPE/NAME", help="Events about one object.")
@click.pass_obj
@verb
def events(session: Session, all_namespaces: bool, about: str | None) -> None:
    """What happened, oldest first."""
    fields = ""
    if about:
        type_, name = session.one((about,))
        fields = f"involvedObject.name={name},involvedObject.kind={type_.kind}"
    scope = None if all_namespaces else session.namespace or session.client.namespace
    _events(session, scope, fields)


def _events(session: Session, scope: str | None, fields: str) -> None:
    type_ = session.client.type_of("events")
    found = session.client.list(type_, scope, fields=fields)["items"]
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"):
        grid.add_column(title, no_wrap=title != "MESSAGE")
    for event in sorted(found, key=lambda e: str(e.get("lastTimestamp") or "")):
        involved = event.get("involvedObject", {})
        grid.add_row(
            str(event.get("lastTimestamp") or ""),
            event.get("type", ""),
            event.get("reason", ""),
            f"{involved.get('kind', '').lower()}/{involved.get('name', '')}",
            event.get("message", ""),
        )
    out.print(grid if found else "[bold]Events:[/] <none>")


@click.command("api-resources")
@click.pass_obj
@verb
def api_resources(session: Session) -> None:
    """The kinds that the fleet serves."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"):
        grid.add_column(title, no_wrap=True)
    for type_ in session.client.types():
        grid.add_row(
            type_.plural,
            ",".join(type_.short_names),
            type_.api_version,
            str(type_.namespaced).lower(),
            type_.kind,
        )
    out.print(grid)


@click.command()
@click.argument("path", metavar="TYPE[.FIELD…]")
@click.pass_obj
@verb
def explain(session: Session, path: str) -> None:
    """What a kind's fields mean: `edgevirt explain app.spec.interfaces`."""
    word, *fields = path.split(".")
    type_ = session.client.type_of(word)
    document = session.client.read(f"/openapi/v3{type_.root}")
    schemas = document["components"]["schemas"]
    schema = _schema_of(schemas, type_)
    for field in fields:
        schema = _resolve(schemas, schema)
        inner = schema.get("properties", {}).get(field)
        if inner is None:
            known = ", ".join(sorted(schema.get("properties", {})))
            raise ClientError(f"cannot explain {path}: no field {field!r}", f"there is {known}")
        schema = inner
    schema = _resolve(schemas, schema)
    out.print(f"[bold]{type_.kind}[/] ({type_.api_version})  {path}")
    out.print(schema.get("description", ""), markup=False)
    for name, inner in schema.get("properties", {}).items():
        merged = _resolve(schemas, inner)
        kind = merged.get("type", "object")
        out.print(f"\n  [bold]{name}[/] <{kind}>")
        text = inner.get("description") or merged.get("description", "")
        out.print(f"    {text}", markup=False)


def _schema_of(schemas: Object, type_: ResourceType) -> Object:
    group, _, version = type_.api_version.rpartition("/")
    for schema in schemas.values():
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            if (gvk["group"], gvk["version"], gvk["kind"]) == (group, version, type_.kind):
                found: Object = schema
                return found
    raise ClientError(f"cannot explain {type_.plural}: the fleet publishes no schema of it")


def _resolve(schemas: Object, schema: Object) -> Object:
    """Follows $ref, allOf and items to the object that has the properties."""
    while True:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
        elif schema.get("allOf"):
            schema = {**schema, **schema["allOf"][0], "allOf": None}
        elif schema.get("type") == "array" and "items" in schema:
            schema = schema["items"]
        else:
            return schema


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE/NAME…")
@click.option("--for", "condition", required=True, metavar="condition=NAME[=VALUE] | delete")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds.")
@click.pass_obj
@verb
def wait(session: Session, words: tuple[str, ...], condition: str, timeout: float) -> None:
    """Wait until objects have a condition, or are gone."""
    type_, names = session.target(words)
    scope = session.scope(type_)
    deadline = time.monotonic() + timeout
    for name in names:
        _wait_one(session, type_, scope, name, condition, deadline)


def _wait_one(
    session: Session,
    type_: ResourceType,
    scope: str | None,
    name: str,
    condition: str,
    deadline: float,
) -> None:
    field = f"metadata.name={name}"
    while (left := deadline - time.monotonic()) > 0:
        listed = session.client.list(type_, scope, fields=field)
        if _holds(listed["items"], condition):
            break
        since = listed["metadata"]["resourceVersion"]
        events = session.client.watch(type_, scope, fields=field, since=since, timeout=left)
        if any(
            _holds([] if event["type"] == "DELETED" else [event["object"]], condition)
            for event in events
            if event["type"] in {"ADDED", "MODIFIED", "DELETED"}
        ):
            break
    else:
        raise ClientError(
            f"cannot wait longer for {type_.singular}/{name}: {condition} did not come",
            f"edgevirt describe {type_.singular}/{name}",
        )
    click.echo(f"{type_.singular}/{name} condition met")


def _holds(bodies: list[Object], condition: str) -> bool:
    if condition == "delete":
        return not bodies
    prefix, _, rest = condition.partition("=")
    if prefix != "condition" or not rest:
        raise ClientError(f"cannot wait for {condition!r}", "condition=NAME[=VALUE] or delete")
    name, _, value = rest.partition("=")
    wanted = (value or "True").lower()
    return any(
        entry["type"].lower() == name.lower() and entry["status"].lower() == wanted
        for body in bodies
        for entry in body.get("status", {}).get("conditions", ())
    )
