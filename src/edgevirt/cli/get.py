"""get: objects as tables, whole, or as they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from edgevirt.cli import manifests
from edgevirt.cli.completing import complete_objects
from edgevirt.cli.session import Session, Target, fail
from edgevirt.cli.tables import NOTHING, Columns
from edgevirt.cli.verb import LABELS, Attempts, Verb

if TYPE_CHECKING:
    from edgevirt.client.resources import Object, ResourceType

_FORMS: Final = ("wide", "yaml", "json", "name", "jsonpath=…", "custom-columns=…")
_TEMPLATES: Final = {
    "jsonpath": "-o jsonpath='{.status.state}'",
    "custom-columns": "-o custom-columns=NAME:.metadata.name",
}
_GONE: Final = 410


@dataclass(frozen=True)
class How:
    """The options. `template`: of -o jsonpath and custom-columns. `order`: a JSON path."""

    form: str = ""
    template: str = ""
    labels: str = ""
    fields: str = ""
    everywhere: bool = False
    show_labels: bool = False
    headers: bool = True
    whole: bool = False
    order: str = ""


def _form(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    form, _, template = value.partition("=")
    if form not in {"", "wide", "yaml", "json", "name", *_TEMPLATES}:
        raise click.BadParameter(f"{value!r} is none of {', '.join(_FORMS)}")
    if form in _TEMPLATES and not template:
        raise click.BadParameter(f"{form} needs a template: {_TEMPLATES[form]}")
    return value


@click.command(cls=Verb)
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="TYPE[,TYPE…] [NAME…] | TYPE/NAME…",
    shell_complete=complete_objects,
)
@click.option("-o", "--output", default="", metavar="|".join(_FORMS), callback=_form)
@LABELS
@click.option("--field-selector", "fields", default="", help="Such as spec.edgeNode=x.")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of every project.")
@click.option("-w", "--watch", is_flag=True, help="Go on telling what changes.")
@click.option("--show-labels", is_flag=True, help="With a column of labels.")
@click.option("--no-headers", is_flag=True, help="Rows alone.")
@click.option("--show-managed-fields", is_flag=True, help="Of -o yaml|json: who set what.")
@click.option("--sort-by", "order", default="", metavar="PATH", help="Such as .status.restarts.")
@click.pass_obj
def get(
    session: Session,
    words: tuple[str, ...],
    output: str,
    labels: str,
    fields: str,
    everywhere: bool,
    watch: bool,
    show_labels: bool,
    no_headers: bool,
    show_managed_fields: bool,
    order: str,
) -> None:
    """Show objects: as tables, or whole with -o yaml|json.

    Such as `edgevirt get nodes,apps`, `edgevirt get app/hello -o yaml`,
    `edgevirt get instances -l site=workshop -w`.
    """
    form, _, template = output.partition("=")
    how = How(
        *(form, template, labels, fields, everywhere, show_labels),
        *(not no_headers, show_managed_fields, order),
    )
    targets = session.targets(words)
    if everywhere and any(target.names for target in targets):
        fail("cannot look for names in all projects", "give -n, or no name")
    if watch:
        if order or form == "custom-columns":
            fail("cannot watch in an order or by columns of your own", "leave -w away")
        if len(targets) != 1:
            fail("cannot watch several kinds at once", "one `edgevirt get … -w` for each")
        Watch(session, targets[0], how).run()
    elif form in {"", "wide"}:
        _show_tables(session, targets, how)
    else:
        _show_objects(session, targets, how)


# -- tables --


def _show_tables(session: Session, targets: list[Target], how: How) -> None:
    attempts = Attempts()
    shown = 0
    for target in targets:
        scope = session.scope(target.type, how.everywhere)
        tables = []
        for name in target.names or ("",):
            with attempts.each():
                tables.append(
                    session.client.table(
                        target.type, scope, name, labels=how.labels, fields=how.fields
                    )
                )
        rows = [row for table in tables for row in table["rows"]]
        if how.order and rows:
            rows = _in_order(session, target, how, rows)
        if rows:
            view = _View(tables[0]["columnDefinitions"], target.type, how, many=len(targets) > 1)
            click.echo(nl=bool(shown))
            view.echo(rows)
            shown += 1
        elif tables and len(targets) == 1:
            _tell_empty(target.type, scope, how)
    if not shown and len(targets) > 1:
        click.echo("there are none of them", err=True)
    attempts.finish()


def _in_order(session: Session, target: Target, how: How, rows: list[Object]) -> list[Object]:
    """A table's rows have not all of their objects."""
    from edgevirt.cli import arranging

    scope = session.scope(target.type, how.everywhere)
    listed = session.client.list(target.type, scope, labels=how.labels, fields=how.fields)["items"]
    uids = [body["metadata"]["uid"] for body in arranging.ordered(listed, how.order)]
    place = {uid: index for index, uid in enumerate(uids)}
    return sorted(rows, key=lambda row: place.get(_meta(row).get("uid"), len(place)))


def _tell_empty(type_: ResourceType, scope: str | None, how: How) -> None:
    where = "" if not type_.namespaced else f" in {f'project {scope}' if scope else 'any project'}"
    picked = " and ".join(repr(part) for part in (how.labels, how.fields) if part)
    which = f"that match {picked}" if picked else ""
    click.echo(" ".join(filter(None, (f"there are no {type_.plural}{where}", which))), err=True)


class _View:
    """A kind's columns as the fleet defines them. `many`: other kinds are shown beside it."""

    def __init__(
        self, definitions: list[Object], type_: ResourceType, how: How, *, many: bool
    ) -> None:
        chosen = [
            (index, column["name"])
            for index, column in enumerate(definitions)
            if how.form == "wide" or not column.get("priority")
        ]
        makers: list[tuple[str, Callable[[Object], Any]]] = []
        if how.everywhere and type_.namespaced:
            makers.append(("namespace", lambda row: _meta(row).get("namespace")))
        for index, name in chosen:
            prefix = f"{type_.singular}/" if many and name == "Name" else ""
            makers.append((name, _cell_maker(index, prefix)))
        if how.show_labels:
            makers.append(("labels", _labels))
        self._makers = [make for _, make in makers]
        self._columns = Columns([title for title, _ in makers], header=how.headers)

    def echo(self, rows: list[Object], suffix: str = "") -> None:
        cells = [[make(row) for make in self._makers] for row in rows]
        lines = list(self._columns.lines(cells))
        header = len(lines) - len(rows)
        for line in lines[:header]:
            click.echo(line)
        for row, line in zip(rows, lines[header:], strict=True):
            going = "   (being deleted)" if _meta(row).get("deletionTimestamp") else ""
            click.echo(line + (suffix or going))


def _cell_maker(index: int, prefix: str) -> Callable[[Object], str]:
    def cell(row: Object) -> str:
        value = row["cells"][index]
        return prefix + (NOTHING if value in (None, "") else str(value))

    return cell


def _meta(row: Object) -> Object:
    found: Object = (row.get("object") or {}).get("metadata", {})
    return found


def _labels(row: Object) -> str:
    return ",".join(f"{k}={v}" for k, v in (_meta(row).get("labels") or {}).items())


# -- whole objects --


def _show_objects(session: Session, targets: list[Target], how: How) -> None:
    attempts = Attempts()
    bodies: list[Object] = []
    for target in targets:
        scope = session.scope(target.type, how.everywhere)
        if target.names:
            for name in target.names:
                with attempts.each():
                    bodies.append(session.client.get(target.type, scope, name))
        else:
            listed = session.client.list(target.type, scope, labels=how.labels, fields=how.fields)
            bodies += [_typed(body, target.type) for body in listed["items"]]
    if how.order:
        from edgevirt.cli import arranging

        bodies = arranging.ordered(bodies, how.order)
    single = len(targets) == 1 and len(targets[0].names) == 1
    if bodies or not single:
        _show_whole(bodies, how, single=single)
    attempts.finish()


def _typed(body: Object, type_: ResourceType) -> Object:
    return {"apiVersion": type_.api_version, "kind": type_.kind, **body}


def _show_whole(bodies: list[Object], how: How, *, single: bool) -> None:
    if how.form == "name":
        for body in bodies:
            click.echo(f"{body['kind'].lower()}/{body['metadata']['name']}")
        return
    if how.form == "custom-columns":
        from edgevirt.cli import arranging

        arranging.CustomColumns(how.template, header=how.headers).echo(bodies)
        return
    shown = [body if how.whole else manifests.without_noise(body) for body in bodies]
    whole: Object = {"apiVersion": "v1", "kind": "List", "items": shown}
    if single:
        whole = shown[0]
    if how.form == "jsonpath":
        from edgevirt.cli import jsonpath

        click.echo(jsonpath.render(how.template, whole))
    else:
        manifests.show(whole, how.form)


# -- as they change --


class Watch:
    """One kind's objects: what there is, then what changes, without end."""

    def __init__(self, session: Session, target: Target, how: How) -> None:
        self._client = session.client
        self._type = target.type
        self._names = target.names
        self._scope = session.scope(target.type, how.everywhere)
        self._how = how
        name = f"metadata.name={self._names[0]}" if len(self._names) == 1 else ""
        self._fields = ",".join(part for part in (name, how.fields) if part)
        self._view: _View | None = None

    def run(self) -> None:
        """The fleet ends each watch after a while. Where it can't go on from where we were, all is
        told anew."""
        from edgevirt.client.errors import Refused

        for name in self._names:
            self._client.get(self._type, self._scope, name)  # it says so when there is none
        since = self._begin()
        while True:
            try:
                for event in self._events(since):
                    since = event["object"]["metadata"].get("resourceVersion", since)
                    if event["type"] != "BOOKMARK":
                        self._tell(event)
            except Refused as refused:
                if refused.code != _GONE:
                    raise
                since = self._begin()

    @property
    def _as_table(self) -> bool:
        return self._how.form in {"", "wide"}

    def _begin(self) -> str:
        """Shows the table as it is, and returns its version; whole objects come with the watch."""
        if not self._as_table:
            return ""
        table = self._client.table(
            self._type, self._scope, labels=self._how.labels, fields=self._fields
        )
        self._view = self._view or _View(
            table["columnDefinitions"], self._type, self._how, many=False
        )
        self._view.echo([row for row in table["rows"] if self._is_meant(_meta(row))])
        version: str = table["metadata"]["resourceVersion"]
        return version

    def _events(self, since: str) -> Iterator[Object]:
        return self._client.watch(
            self._type,
            self._scope,
            labels=self._how.labels,
            fields=self._fields,
            since=since,
            table=self._as_table,
        )

    def _is_meant(self, meta: Object) -> bool:
        return not self._names or meta.get("name") in self._names

    def _tell(self, event: Object) -> None:
        body, gone = event["object"], event["type"] == "DELETED"
        if self._view is not None:
            rows = [row for row in body["rows"] if self._is_meant(_meta(row))]
            self._view.echo(rows, "   (deleted)" if gone else "")
        elif self._is_meant(body["metadata"]) and not gone:
            if self._how.form == "yaml":
                click.echo("---")
            _show_whole([body], self._how, single=True)
