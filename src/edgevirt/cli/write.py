"""Verbs that change: apply, create, patch, edit, delete, diff, restart, purge, reboot."""

from __future__ import annotations

import difflib

import click
import yaml

from edgevirt.cli.session import Session, read_manifests, reference, verb
from edgevirt.client import ClientError, Object, Refused, ResourceType

FILES = click.option(
    "-f", "--filename", "files", multiple=True, required=True, help="File, directory, or - ."
)


def _place(session: Session, body: Object) -> tuple[ResourceType, str | None]:
    """The type of a manifest and the namespace that it goes to."""
    try:
        kind, meta = body["kind"], body["metadata"]
        meta["name"]
    except (KeyError, TypeError) as error:
        raise ClientError(f"cannot use a manifest: it lacks {error}") from None
    type_ = session.client.type_of(kind)
    named = meta.get("namespace")
    if named and session.namespace and named != session.namespace:
        raise ClientError(
            f"cannot put {reference(body)} into {session.namespace}: it says namespace {named}"
        )
    return type_, named or session.scope(type_) if type_.namespaced else None


@click.command()
@FILES
@click.option("--force-conflicts", "force", is_flag=True, help="Take fields from other managers.")
@click.option("--dry-run", is_flag=True, help="Let the fleet check it, and change nothing.")
@click.pass_obj
@verb
def apply(session: Session, files: tuple[str, ...], force: bool, dry_run: bool) -> None:
    """Make objects as the manifests say (server-side apply)."""
    for body in read_manifests(files):
        type_, scope = _place(session, body)
        before = _version(session, type_, scope, body["metadata"]["name"])
        after = session.client.apply(type_, scope, body, force=force, dry_run=dry_run)
        if before is None:
            did = "created"
        elif before == after["metadata"]["resourceVersion"]:
            did = "unchanged"
        else:
            did = "configured"
        click.echo(f"{reference(body)} {did}" + (" (dry run)" if dry_run else ""))


def _version(session: Session, type_: ResourceType, scope: str | None, name: str) -> str | None:
    try:
        version: str = session.client.get(type_, scope, name)["metadata"]["resourceVersion"]
    except Refused as refused:
        if refused.code == 404:
            return None
        raise
    return version


@click.command()
@FILES
@click.pass_obj
@verb
def create(session: Session, files: tuple[str, ...]) -> None:
    """Make new objects; a name that is taken is an error."""
    for body in read_manifests(files):
        type_, scope = _place(session, body)
        session.client.create(type_, scope, body)
        click.echo(f"{reference(body)} created")


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE/NAME")
@click.option("-p", "--patch", "change", required=True, help="JSON or YAML.")
@click.option("--type", "style", type=click.Choice(["merge", "json"]), default="merge")
@click.pass_obj
@verb
def patch(session: Session, words: tuple[str, ...], change: str, style: str) -> None:
    """Change some fields of an object."""
    type_, name = session.one(words)
    try:
        parsed = yaml.safe_load(change)
    except yaml.YAMLError as error:
        raise ClientError(f"cannot read the patch: {error}") from None
    session.client.patch(type_, session.scope(type_), name, parsed, style=style)
    click.echo(f"{type_.singular}/{name} patched")


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="TYPE/NAME")
@click.pass_obj
@verb
def edit(session: Session, words: tuple[str, ...]) -> None:
    """Change an object in your editor."""
    type_, name = session.one(words)
    scope = session.scope(type_)
    body = session.client.get(type_, scope, name)
    body["metadata"].pop("managedFields", None)
    text = yaml.safe_dump(body, sort_keys=False)
    edited = click.edit(text, extension=".yaml")
    if edited is None or edited == text:
        click.echo("edit cancelled, nothing changed")
        return
    session.client.replace(type_, scope, yaml.safe_load(edited))
    click.echo(f"{type_.singular}/{name} edited")


@click.command()
@click.argument("words", nargs=-1, metavar="TYPE NAME… | TYPE/NAME…")
@click.option("-f", "--filename", "files", multiple=True, help="What these manifests name.")
@click.pass_obj
@verb
def delete(session: Session, words: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Delete objects, the last of a manifest first."""
    targets: list[tuple[ResourceType, str | None, str]] = []
    if words:
        type_, names = session.target(words)
        targets += [(type_, session.scope(type_), name) for name in names]
    for body in read_manifests(files):
        targets.insert(0, (*_place(session, body), body["metadata"]["name"]))
    if not targets:
        raise ClientError("cannot tell what to delete: no name and no file given")
    for type_, scope, name in targets:
        session.client.delete(type_, scope, name)
        click.echo(f"{type_.singular}/{name} deleted")


@click.command()
@FILES
@click.pass_obj
@verb
def diff(session: Session, files: tuple[str, ...]) -> None:
    """What apply would change. Exit status 1 when it would change something."""
    changed = False
    for body in read_manifests(files):
        type_, scope = _place(session, body)
        try:
            live = session.client.get(type_, scope, body["metadata"]["name"])
        except Refused as refused:
            if refused.code != 404:
                raise
            live = {}
        then = session.client.apply(type_, scope, body, force=True, dry_run=True)
        lines = list(
            difflib.unified_diff(
                _lines(live), _lines(then), f"now/{reference(body)}", f"then/{reference(body)}"
            )
        )
        changed = changed or bool(lines)
        click.echo("".join(lines), nl=False)
    raise SystemExit(1 if changed else 0)


def _lines(body: Object) -> list[str]:
    if not body:
        return []
    meta = {
        key: value
        for key, value in body["metadata"].items()
        if key not in {"managedFields", "resourceVersion", "uid", "creationTimestamp"}
    }
    return yaml.safe_dump({**body, "metadata": meta}, sort_keys=True).splitlines(keepends=True)


def _bump(session: Session, word: str, name: str, field: str) -> int:
    """Raises a counter in the spec by one; what differs from the last one triggers."""
    type_ = session.client.type_of(word)
    scope = session.scope(type_)
    body = session.client.get(type_, scope, name)
    counter = int(body["spec"].get(field) or 0) + 1
    change = {
        "metadata": {"resourceVersion": body["metadata"]["resourceVersion"]},
        "spec": {field: counter},
    }
    session.client.patch(type_, scope, name, change, style="merge")
    return counter


@click.command()
@click.argument("app")
@click.pass_obj
@verb
def restart(session: Session, app: str) -> None:
    """Stop an app instance and start it again; its volumes stay."""
    count = _bump(session, "appinstance", app, "restartCounter")
    click.echo(
        f"appinstance/{app} restart {count} asked for; see: edgevirt get appinstance {app} -w"
    )


@click.command()
@click.argument("app")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
@verb
def purge(session: Session, app: str, yes: bool) -> None:
    """Start an app instance over with new volumes: what it kept on them is lost."""
    if not yes:
        click.confirm(f"purge {app}: what it keeps on its volumes is lost. Go on?", abort=True)
    count = _bump(session, "appinstance", app, "purgeCounter")
    click.echo(f"appinstance/{app} purge {count} asked for; see: edgevirt get appinstance {app} -w")


@click.command()
@click.argument("node")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
@verb
def reboot(session: Session, node: str, yes: bool) -> None:
    """Reboot an edge node."""
    if not yes:
        click.confirm(f"reboot {node}: its apps stop meanwhile. Go on?", abort=True)
    count = _bump(session, "edgenode", node, "rebootCounter")
    click.echo(f"edgenode/{node} reboot {count} asked for; see: edgevirt get edgenode {node} -w")


@click.command()
@click.argument("request")
@click.pass_obj
@verb
def approve(session: Session, request: str) -> None:
    """Let a node in that asks to enrol."""
    type_ = session.client.type_of("enrollmentrequest")
    change = {"spec": {"approved": True}}
    session.client.patch(type_, session.scope(type_), request, change, style="merge")
    click.echo(f"enrollmentrequest/{request} approved")
