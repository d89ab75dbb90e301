"""describe and events: all about one object, for people."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from edgevirt.cli.completing import complete_objects
from edgevirt.cli.session import Session, awaited
from edgevirt.cli.storage import echo_storage
from edgevirt.cli.tables import NOTHING, Columns, age, ago, echo_table, is_stamp, size
from edgevirt.cli.verb import LABELS, OBJECTS, Attempts, Verb

if TYPE_CHECKING:
    from edgevirt.client.resources import Object

_BYTES: Final = frozenset({"memory", "storage", "size", "capacity", "used"})
"""Fields that hold bytes, by any kind's name for them."""
_PEM: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----")
_WORD_END: Final = re.compile("(?<=[a-z])(?=[A-Z])")
"""Within a field's name: `usedBy` heads a column as USED BY."""
_MOST_LINES: Final = 12
_MOST_COLUMNS: Final = 6
_MOST_EVENTS: Final = 20


@click.command(cls=Verb)
@OBJECTS
@LABELS
@click.pass_obj
def describe(session: Session, words: tuple[str, ...], labels: str) -> None:
    """Tell all about an object, and what happened to it lately."""
    attempts = Attempts()
    for index, (type_, scope, name) in enumerate(session.objects(words, labels)):
        with attempts.each():
            body = session.client.get(type_, scope, name)
            if index:
                click.echo("\n")
            _head(body)
            _parts(body)
            if body["kind"] == "EdgeNode":
                echo_storage(session, type_, scope or "", name)
            _events_about(session, scope, body)
    attempts.finish()


def _head(body: Object) -> None:
    meta = body["metadata"]
    rows = [("Name", meta["name"]), ("Kind", body["kind"])]
    if "namespace" in meta:
        rows.insert(1, ("Namespace", meta["namespace"]))
    for title in ("labels", "annotations"):
        pairs = (meta.get(title) or {}).items()
        rows.append((title.capitalize(), "\n".join(f"{k}={v}" for k, v in pairs) or NOTHING))
    rows.append(("Created", _scalar("", meta.get("creationTimestamp"))))
    if gone := meta.get("deletionTimestamp"):
        waiting = awaited(body) or "nothing"
        rows.append(("Being deleted", f"{ago(gone)}, waits for {waiting}"))
    _pairs(rows, 0)


def _parts(body: Object) -> None:
    """Spec, status and whatever else the kind has; conditions as a table at the end."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    rest = {}
    for part, value in body.items():
        if part in {"apiVersion", "kind", "metadata"}:
            continue
        if part == "status":
            value = {key: inner for key, inner in value.items() if key != "conditions"}
        if body["kind"] == "Secret" and part in {"data", "stringData"}:
            value = {key: _hidden(str(inner)) for key, inner in value.items()}
        if isinstance(value, dict) and value:
            click.secho(f"{part.capitalize()}:", bold=True)
            _outline(value, 1)
        elif value not in ({}, [], None):
            rest[part] = value
    _outline(rest, 0)
    if conditions:
        click.secho("Conditions:", bold=True)
        echo_table(
            ("type", "status", "since", "reason", "message"),
            [
                (c["type"], c["status"], age(c.get("lastTransitionTime")), c.get("reason"),
                 c.get("message"))
                for c in conditions
            ],
            indent="  ",
        )  # fmt: skip


def _hidden(encoded: str) -> str:
    try:
        return f"{len(base64.b64decode(encoded))} bytes"
    except binascii.Error:
        return "hidden"


# -- any value, as an outline --


def _outline(value: Mapping[str, Any], depth: int) -> None:
    """Fields by their names in manifests. Scalars first, so that they stand in line."""
    plain = {key: inner for key, inner in value.items() if not _has_parts(inner)}
    _pairs([(key, _scalar(key, inner)) for key, inner in plain.items()], depth)
    for key, inner in value.items():
        if key not in plain:
            click.secho(f"{'  ' * depth}{key}:", bold=depth == 0)
            _nested(inner, depth + 1)


def _nested(value: Any, depth: int) -> None:
    pad = "  " * depth
    if isinstance(value, dict):
        _outline(value, depth)
    elif all(isinstance(item, dict) and not any(map(_has_parts, item.values())) for item in value):
        titles = list(dict.fromkeys(key for item in value for key in item))
        if len(titles) > _MOST_COLUMNS or any(_is_long(v) for item in value for v in item.values()):
            _items(value, depth)
            return
        rows = [[_scalar(key, item.get(key)) for key in titles] for item in value]
        echo_table([_WORD_END.sub(" ", title) for title in titles], rows, indent=pad)
    else:
        _items(value, depth)


def _items(values: Iterable[Any], depth: int) -> None:
    """One after the other, each begun by a dash."""
    pad = "  " * depth
    for item in values:
        if isinstance(item, dict):
            click.echo(f"{pad}-")
            _outline(item, depth + 1)
        else:
            click.echo(f"{pad}- {_scalar('', item)}")


def _pairs(rows: list[tuple[str, str]], depth: int) -> None:
    """`Title:  value`, the values in line; what has several lines goes on below."""
    width = max((len(title) for title, _ in rows), default=0) + 3
    for title, text in rows:
        first, *more = text.split("\n")
        head = click.style(f"{title}:", bold=True) if depth == 0 else f"{title}:"
        blank = " " * (width - len(title) - 1)
        click.echo(f"{'  ' * depth}{head}{blank}{first}")
        for line in more:
            click.echo(f"{'  ' * depth}{' ' * width}{line}")


def _has_parts(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, dict | list) for item in value)
    return isinstance(value, dict) and bool(value)


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and ("\n" in value or len(value) > 200)


def _scalar(key: str, value: Any) -> str:
    if value in (None, "", [], {}):
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_scalar(key, item) for item in value)
    if isinstance(value, int) and key in _BYTES and value >= 1024:
        return f"{size(value)} ({value} bytes)"
    if is_stamp(value):
        return ago(value)
    return _text(str(value))


def _text(text: str) -> str:
    """Certificates by what they are, long texts by their beginning; control characters of no
    report reach the terminal."""
    if pem := _PEM.match(text):
        return f"<{pem[1].lower()}>"
    lines = [
        "".join(c if c.isprintable() or c == "\t" else "�" for c in line)
        for line in text.rstrip("\n").split("\n")
    ]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"… ({len(lines) - _MOST_LINES} lines more)"]
    return "\n".join(lines)


# -- events --


@click.command(cls=Verb)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of every project.")
@click.option("--for", "about", metavar="TYPE/NAME", help="Events about one object.",
              shell_complete=complete_objects)  # fmt: skip
@click.option("--type", "types", type=click.Choice(["Normal", "Warning"]), help="Of one type.")
@click.option("-w", "--watch", is_flag=True, help="Go on telling what happens.")
@click.pass_obj
def events(
    session: Session, everywhere: bool, about: str | None, types: str | None, watch: bool
) -> None:
    """Tell what happened, oldest first. Events are kept for an hour."""
    scope = None if everywhere else session.project
    fields = [f"type={types}"] if types else []
    if about:
        type_, name = session.one((about,))
        fields += [f"involvedObject.name={name}", f"involvedObject.kind={type_.kind}"]
        if not type_.namespaced:
            scope = None
    listed, since = _list_events(session, scope, ",".join(fields))
    titles = ["last seen", "type", "reason", "object", "message"]
    columns = Columns(["namespace", *titles] if everywhere else titles)
    if listed:
        columns.echo(_event_row(event, with_namespace=everywhere) for event in listed)
    elif not watch:
        click.echo(
            f"nothing happened in the last hour{'' if everywhere else f' in {scope}'}", err=True
        )
    type_ = session.type_of("events")
    while watch:
        for change in session.client.watch(type_, scope, fields=",".join(fields), since=since):
            since = change["object"]["metadata"].get("resourceVersion", since)
            if change["type"] in {"ADDED", "MODIFIED"}:
                columns.echo([_event_row(change["object"], with_namespace=everywhere)])


def _event_row(event: Object, *, with_namespace: bool) -> list[object]:
    involved = event.get("involvedObject", {})
    count = int(event.get("count") or 1)
    seen = age(event.get("lastTimestamp") or event.get("eventTime"))
    if count > 1:
        seen += f" (x{count})"
    about = f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"
    row = [seen, event.get("type"), event.get("reason"), about, event.get("message")]
    return [event["metadata"].get("namespace"), *row] if with_namespace else row


def _list_events(session: Session, scope: str | None, fields: str) -> tuple[list[Object], str]:
    """Oldest first, and the version of the list."""
    listed = session.client.list(session.type_of("events"), scope, fields=fields)
    return (
        sorted(listed["items"], key=lambda e: str(e.get("lastTimestamp") or "")),
        listed["metadata"]["resourceVersion"],
    )


def _events_about(session: Session, scope: str | None, body: Object) -> None:
    if body["kind"] == "Event":
        return
    meta = body["metadata"]
    fields = f"involvedObject.name={meta['name']},involvedObject.kind={body['kind']}"
    listed, _ = _list_events(session, scope, f"{fields},involvedObject.uid={meta['uid']}")
    if not listed:
        click.echo(f"{click.style('Events:', bold=True)}  {NOTHING}")
        return
    click.secho("Events:", bold=True)
    columns = Columns(["last seen", "type", "reason", "message"], indent="  ")
    rows = [_event_row(event, with_namespace=False) for event in listed[-_MOST_EVENTS:]]
    columns.echo([*row[:3], row[4]] for row in rows)
