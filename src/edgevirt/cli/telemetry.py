"""Verbs over what nodes report: logs and top."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import click

from edgevirt.cli.completing import complete_logged
from edgevirt.cli.session import Session, fail
from edgevirt.cli.tables import age, echo_table, size
from edgevirt.cli.verb import LABELS, Verb
from edgevirt.cli.wait import Duration

if TYPE_CHECKING:
    from edgevirt.client.resources import ResourceType

_LINE: Final = re.compile(r"(\S+) (\S+) ([^:]*): (.*)")
"""A node's line as the fleet writes it: time, severity, source, text."""
_COLORS: Final = {"warning": "yellow", "warn": "yellow", "error": "red", "fatal": "red"}
_SERVICE_WIDTH: Final = 10
_LEVEL_WIDTH: Final = 7


@click.command(cls=Verb)
@click.argument("target", metavar="APPINSTANCE | node/NAME", shell_complete=complete_logged)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--tail", type=click.IntRange(-1), metavar="LINES", default=200, show_default=True,
              help="Lines to begin with; -1: as many as the fleet gives.")  # fmt: skip
@click.option("--since", type=Duration(), metavar="DURATION", help="Only the last 30s, 5m, 2h….")
@click.option("--timestamps", is_flag=True, help="Of an app's lines; a node's have them anyway.")
@click.pass_obj
def logs(
    session: Session, target: str, follow: bool, tail: int, since: float | None, timestamps: bool
) -> None:
    """Show what an app printed, or what a node's services tell.

    Such as `edgevirt logs hello -f`, `edgevirt logs node/factory-7 --since 10m`.
    """
    type_, name = _logged(session, target)
    if type_.kind not in {"AppInstance", "EdgeNode"}:
        fail(
            f"cannot show logs of {type_.singular}/{name}: it has none",
            "app instances and nodes have them",
        )
    query = {"tailLines": str(tail)} if tail >= 0 else {}
    if since is not None:
        query["sinceSeconds"] = str(max(round(since), 1))
    if timestamps:
        query["timestamps"] = "true"
    path = type_.path(session.scope(type_), name, "log")
    line = None
    for line in session.client.lines(path, follow=follow, **query):
        click.echo(node_line(line) if type_.kind == "EdgeNode" else line)
    if line is None:
        _tell_of_silence(session, type_, name, since is not None or not tail)


def _logged(session: Session, target: str) -> tuple[ResourceType, str]:
    """An app instance by its name alone; a node's name alone is told how to be asked for."""
    if "/" in target:
        return session.one((target,))
    type_, name = session.one((f"appinstances/{target}",))
    if session.client.find(type_, session.scope(type_), name) is None:
        nodes = session.type_of("edgenodes")
        if session.client.find(nodes, session.scope(nodes), name) is not None:
            fail(
                f"cannot show logs of {name}: there is no app instance of this name, but a node",
                f"edgevirt logs node/{name}",
            )
    return type_, name


def _tell_of_silence(session: Session, type_: ResourceType, name: str, narrowed: bool) -> None:
    """An empty log is told, so that nobody takes it for a failure of the command."""
    what = f"{type_.singular}/{name} has printed nothing{' of that age' if narrowed else ' yet'}"
    status = session.client.get(type_, session.scope(type_), name).get("status") or {}
    words = [status.get("state") or status.get("phase"), status.get("what")]
    errors = [error["message"] for error in status.get("errors") or ()][:1]
    now = ": ".join(filter(None, [*words, *errors]))
    click.echo(f"{what}{f'; it is {now}' if now else ''}", err=True)


def node_line(line: str) -> str:
    """`time service level text`, in columns; what has another form stays as it is."""
    found = _LINE.fullmatch(line)
    if found is None:
        return line
    stamp, level, service, text = found.groups()
    head = f"{stamp} {service:<{_SERVICE_WIDTH}} {level:<{_LEVEL_WIDTH}} "
    return click.style(head, fg=_COLORS.get(level)) + _said(text)


def _said(text: str) -> str:
    """EVE's own services write JSON: the message, and why, is what people look for."""
    if not text.startswith("{"):
        return text
    try:
        entry = json.loads(text)
    except ValueError:
        return text
    if not isinstance(entry, dict) or not isinstance(entry.get("msg"), str):
        return text
    error = entry.get("error")
    message: str = entry["msg"].rstrip()
    return f"{message}: {error}" if isinstance(error, str) else message


# -- top --


@click.command(cls=Verb)
@click.argument("what", type=click.Choice(["nodes", "node", "apps", "app"]), default="nodes")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@LABELS
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of every project.")
@click.pass_obj
def top(session: Session, what: str, names: tuple[str, ...], labels: str, everywhere: bool) -> None:
    """Show what nodes, or app instances, use of their machines."""
    apps = what.startswith("app")
    type_ = session.type_of("appinstances" if apps else "edgenodes")
    scope = session.scope(type_, everywhere)
    if names:
        bodies = [session.client.get(type_, scope, name) for name in names]
    else:
        bodies = session.client.list(type_, scope, labels=labels)["items"]
    if not bodies:
        click.echo(f"there are no {type_.plural}", err=True)
        return
    titles = ["name", *(["node"] if apps else []), "cpu", "memory", "disk", "received", "sent"]
    rows = []
    for body in bodies:
        meta = body["metadata"]
        row = [meta["namespace"]] if everywhere else []
        row += [meta["name"], *([body["spec"]["edgeNode"]] if apps else [])]
        rows.append([*row, *_usage(session, type_, meta["namespace"], meta["name"])])
    echo_table([*(["namespace"] if everywhere else []), *titles, "as of"], rows)


def _usage(session: Session, type_: ResourceType, scope: str, name: str) -> list[str]:
    usage = session.client.find(type_, scope, name, "metrics")
    if usage is None:
        return ["-"] * 5 + ["never"]
    return [
        _cores(usage.get("cpuMillicores")),
        _used(usage.get("memoryBytes"), usage.get("memoryLimitBytes")),
        _used(usage.get("diskBytes"), usage.get("diskLimitBytes")),
        size(usage.get("receivedBytes")),
        size(usage.get("sentBytes")),
        f"{age(usage.get('timestamp'))} ago",
    ]


def _cores(millicores: Any) -> str:
    """Thousandths of a core. The first two reports make the first figure."""
    return "-" if millicores is None else f"{millicores:.0f}m"


def _used(value: float | None, limit: float | None) -> str:
    if value is None:
        return "-"
    return size(value) + (f"/{size(limit)} ({value / limit:.0%})" if limit else "")
