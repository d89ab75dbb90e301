"""Verbs over what nodes report: logs and top."""

from __future__ import annotations

import click
from rich.table import Table

from edgevirt.cli.session import Session, out, verb
from edgevirt.client import ClientError, Refused


@click.command()
@click.argument("target", metavar="APPINSTANCE | node/NAME | TYPE/NAME")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--tail", default=200, show_default=True, help="Lines to begin with.")
@click.option("--since", default=0, help="Only the last so many seconds.")
@click.pass_obj
@verb
def logs(session: Session, target: str, follow: bool, tail: int, since: int) -> None:
    """What an app printed, or what a node's services tell."""
    word = target if "/" in target else f"appinstance/{target}"
    type_, name = session.one((word,))
    if type_.kind not in {"AppInstance", "EdgeNode"}:
        raise ClientError(
            f"cannot show logs of a {type_.kind}", "app instances and nodes have them"
        )
    path = session.client.path(type_, session.scope(type_), name, "log")
    query = {"tailLines": str(tail)} | ({"sinceSeconds": str(since)} if since else {})
    for line in session.client.lines(path, follow=follow, **query):
        click.echo(line)


@click.command()
@click.argument("what", type=click.Choice(["nodes", "node", "apps", "app"]), default="nodes")
@click.pass_obj
@verb
def top(session: Session, what: str) -> None:
    """What nodes, or apps, use of their machines right now."""
    apps = what.startswith("app")
    type_ = session.client.type_of("appinstance" if apps else "edgenode")
    scope = session.scope(type_)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "CPU", "MEMORY", "DISK", "RECEIVED", "SENT", "AS OF"):
        grid.add_column(title, no_wrap=True)
    for body in session.client.list(type_, scope)["items"]:
        name = body["metadata"]["name"]
        try:
            metrics = session.client.read(session.client.path(type_, scope, name, "metrics"))
        except Refused as refused:
            if refused.code != 404:
                raise
            grid.add_row(name, *["<none yet>"] * 6)
            continue
        grid.add_row(
            name,
            _cores(metrics.get("cpuMillicores")),
            _used(metrics.get("memoryBytes"), metrics.get("memoryLimitBytes")),
            _used(metrics.get("diskBytes"), metrics.get("diskLimitBytes")),
            _size(metrics.get("receivedBytes")),
            _size(metrics.get("sentBytes")),
            str(metrics.get("timestamp", "")),
        )
    out.print(grid)


def _cores(millicores: float | None) -> str:
    return "<none>" if millicores is None else f"{millicores:.0f}m"


def _used(value: float | None, limit: float | None) -> str:
    if value is None:
        return "<none>"
    return _size(value) + (f" of {_size(limit)}" if limit else "")


def _size(value: float | None) -> str:
    if value is None:
        return "<none>"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
