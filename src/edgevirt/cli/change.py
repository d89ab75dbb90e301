"""Verbs that change objects: apply, create, edit, patch, diff, delete."""

from __future__ import annotations

import difflib
import os
import tempfile
from typing import TYPE_CHECKING

import click

from edgevirt.cli import manifests
from edgevirt.cli.completing import complete_objects
from edgevirt.cli.session import Failure, Session, awaited, fail, reference
from edgevirt.cli.verb import LABELS, Attempts, Verb, confirm

if TYPE_CHECKING:
    from edgevirt.client.resources import Object

FILES = click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE|DIR|-",
    type=click.Path(allow_dash=True), help="Manifests in YAML or JSON; may be repeated.",
)  # fmt: skip
DRY_RUN = click.option("--dry-run", is_flag=True, help="Let the fleet judge, and change nothing.")
ONE = click.argument("words", nargs=-1, required=True, metavar="TYPE NAME | TYPE/NAME",
                     shell_complete=complete_objects)  # fmt: skip
_NOT_FOUND = 404
_CORRECTABLE = frozenset({400, 409, 422})


@click.command(cls=Verb)
@FILES
@click.option("--force-conflicts", "force", is_flag=True, help="Take fields from other managers.")
@DRY_RUN
@click.pass_obj
def apply(session: Session, files: tuple[str, ...], force: bool, dry_run: bool) -> None:
    """Make objects as manifests say (server-side apply).

    Fields that an earlier apply set and the manifest doesn't name any more are removed; fields of
    others stay.
    """
    attempts = Attempts()
    for body in manifests.read_some(files):
        with attempts.each(reference(body)):
            type_, scope = manifests.place(session, body)
            before = session.client.find(type_, scope, body["metadata"]["name"])
            after = session.client.apply(type_, scope, body, force=force, dry_run=dry_run)
            click.echo(f"{reference(body)} {_outcome(before, after)}{_dry(dry_run)}")
            if after["metadata"].get("deletionTimestamp"):
                _tell_that_it_goes(body, after)
    attempts.finish()


def _tell_that_it_goes(body: Object, after: Object) -> None:
    waits = awaited(after)
    click.secho(
        f"edgevirt: warning: {reference(body)} is being deleted"
        + (f" and waits for {waits}" if waits else "")
        + "; once it is gone, apply makes it anew",
        err=True,
        fg="yellow",
    )


def _outcome(before: Object | None, after: Object) -> str:
    if before is None:
        return "created"
    return "unchanged" if _intent(before) == _intent(after) else "configured"


def _intent(body: Object) -> Object:
    """What people may change of an object."""
    meta = {key: body["metadata"].get(key) for key in ("labels", "annotations", "finalizers")}
    rest = {key: value for key, value in body.items() if key not in {"metadata", "status"}}
    return {**rest, "metadata": meta}


def _dry(dry_run: bool) -> str:
    return " (dry run)" if dry_run else ""


@click.command(cls=Verb)
@FILES
@DRY_RUN
@click.pass_obj
def create(session: Session, files: tuple[str, ...], dry_run: bool) -> None:
    """Make new objects; a name that is taken is an error."""
    attempts = Attempts()
    for body in manifests.read_some(files):
        with attempts.each(reference(body)):
            type_, scope = manifests.place(session, body)
            made = session.client.create(type_, scope, body, dry_run=dry_run)
            click.echo(f"{reference(made)} created{_dry(dry_run)}")
    attempts.finish()


@click.command(cls=Verb)
@ONE
@click.option("-p", "--patch", "change", required=True, metavar="JSON|YAML")
@click.option("--type", "style", type=click.Choice(["merge", "json"]), default="merge",
              show_default=True, help="RFC 7386 or RFC 6902.")  # fmt: skip
@click.pass_obj
def patch(session: Session, words: tuple[str, ...], change: str, style: str) -> None:
    """Change some fields of an object.

    Such as `edgevirt patch app/hello -p '{spec: {image: hello-2}}'`.
    """
    type_, name = session.one(words)
    parsed = manifests.parse(change, "the patch")
    if len(parsed) != 1 or not isinstance(parsed[0], dict if style == "merge" else list):
        fail(
            f"cannot use the patch: a {style} patch is "
            + ("an object" if style == "merge" else "a list of operations")
        )
    scope = session.scope(type_)
    before = session.client.get(type_, scope, name)
    after = session.client.patch(type_, scope, name, parsed[0], style=style)
    click.echo(f"{type_.singular}/{name} {'patched' if _differ(before, after) else 'unchanged'}")


def _differ(before: Object, after: Object) -> bool:
    return bool(before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"])


# -- edit --


@click.command(cls=Verb)
@ONE
@click.pass_obj
def edit(session: Session, words: tuple[str, ...]) -> None:
    """Change an object in your editor ($VISUAL, $EDITOR).

    What the fleet refuses comes up again with the reason, until it is right or left as it was.
    """
    from edgevirt.client.errors import Refused

    type_, name = session.one(words)
    scope = session.scope(type_)
    body = session.client.get(type_, scope, name)
    original = _editable(body)
    text, why = original, ""
    while True:
        edited = _ask_editor(text, why)
        if edited is None or edited == original or (why and edited == text):
            _give_up(edited, original, why)
            return
        text = edited
        try:
            session.client.replace(type_, scope, _parse_edited(edited, body))
        except (Refused, Failure) as error:
            if isinstance(error, Refused) and error.code not in _CORRECTABLE:
                raise
            why = str(error)
            continue
        click.echo(f"{type_.singular}/{name} edited")
        return


def _editable(body: Object) -> str:
    """Without the status, which is not people's to change."""
    shown = {key: value for key, value in body.items() if key != "status"}
    return manifests.to_yaml(manifests.without_noise(shown))


def _ask_editor(text: str, why: str) -> str | None:
    """What came back, without our comments; None when the editor saved nothing."""
    notes = [f"# {line}\n" for line in why.splitlines()]
    try:
        edited = click.edit("".join(notes) + text, extension=".yaml", require_save=not why)
    except click.ClickException as error:
        reason = error.format_message().replace("Editing failed: ", "")
        fail(f"cannot open an editor: {reason}", "set VISUAL or EDITOR to one that is installed")
    if edited is None:
        return None
    lines = edited.splitlines(keepends=True)
    while notes and lines and lines[0] in notes:
        lines.pop(0)
    return "".join(lines)


def _parse_edited(text: str, body: Object) -> Object:
    documents = manifests.parse(text, "what you wrote")
    if len(documents) != 1 or not isinstance(documents[0], dict):
        fail("cannot use what you wrote: it must be one object")
    edited: Object = documents[0]
    meta = edited.get("metadata")
    if not isinstance(meta, dict) or meta.get("name") != body["metadata"]["name"]:
        fail("cannot use what you wrote: the name of an object cannot be changed")
    return edited


def _give_up(edited: str | None, original: str, why: str) -> None:
    if not why:
        click.echo("nothing was changed", err=True)
        return
    if edited in {None, original}:
        fail(why)
    descriptor, path = tempfile.mkstemp(prefix="edgevirt-edit-", suffix=".yaml")
    with os.fdopen(descriptor, "w") as file:
        file.write(edited or "")
    fail(why, f"what you wrote is in {path}")


# -- diff --


@click.command(cls=Verb)
@FILES
@click.pass_obj
def diff(session: Session, files: tuple[str, ...]) -> None:
    """Show what apply would change. Exit status 1 when it would change something, 2 on failure."""
    from edgevirt.client.errors import ClientError

    try:
        changed = [_show_difference(session, body) for body in manifests.read_some(files)]
    except (ClientError, Failure) as error:
        raise Failure(str(error), error.hint, code=2) from None
    raise click.exceptions.Exit(1 if any(changed) else 0)


def _show_difference(session: Session, body: Object) -> bool:
    type_, scope = manifests.place(session, body)
    now = session.client.find(type_, scope, body["metadata"]["name"])
    then = session.client.apply(type_, scope, body, force=True, dry_run=True)
    name = reference(body)
    lines = list(difflib.unified_diff(_lines(now), _lines(then), f"now/{name}", f"then/{name}"))
    for line in lines:
        color = {"+": "green", "-": "red"}.get(line[0])
        click.echo(click.style(line, fg=color) if color else line, nl=False)
    return bool(lines)


def _lines(body: Object | None) -> list[str]:
    if body is None:
        return []
    shown = _intent(body)
    shown["metadata"] = {key: value for key, value in shown["metadata"].items() if value}
    return manifests.to_yaml(shown, sort=True).splitlines(keepends=True)


# -- delete --


@click.command(cls=Verb)
@click.argument("words", nargs=-1, metavar="TYPE NAME… | TYPE/NAME…",
                shell_complete=complete_objects)  # fmt: skip
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE|DIR|-",
              type=click.Path(allow_dash=True), help="What these manifests name.")  # fmt: skip
@LABELS
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--ignore-not-found", "lenient", is_flag=True, help="Gone already is fine.")
@DRY_RUN
@click.pass_obj
def delete(
    session: Session,
    words: tuple[str, ...],
    files: tuple[str, ...],
    labels: str,
    yes: bool,
    lenient: bool,
    dry_run: bool,
) -> None:
    """Delete objects; those of manifests in reverse order, so that users go before the used."""
    from edgevirt.client.errors import Refused

    targets = list(session.objects(words, labels)) if words else []
    for body in reversed(manifests.read(files)):
        type_, scope = manifests.place(session, body)
        targets.append((type_, scope, body["metadata"]["name"]))
    if not targets:
        if labels:
            click.echo("there are none of them", err=True)
            return
        fail("cannot tell what to delete: no name and no file given", "TYPE/NAME, or -f FILE")
    if not (yes or dry_run or lenient or files):
        for type_, scope, name in targets:
            session.client.get(type_, scope, name)  # nobody is asked about what is not there
    listed = ", ".join(f"{type_.singular}/{name}" for type_, _, name in targets)
    confirm(f"delete {listed}?", yes=yes or dry_run)
    there = {at for at in targets if session.client.find(*at)} if len(targets) > 1 else set()
    attempts = Attempts()
    for type_, scope, name in targets:
        with attempts.each():
            try:
                left = session.client.delete(type_, scope, name, dry_run=dry_run)
            except Refused as refused:
                if refused.code != _NOT_FOUND:
                    raise
                if (type_, scope, name) in there:  # it went along with its user
                    click.echo(f"{type_.singular}/{name} deleted")
                elif not lenient:
                    raise
                continue
            click.echo(f"{type_.singular}/{name} {_went(left)}{_dry(dry_run)}")
    attempts.finish()


def _went(answer: Object) -> str:
    """The fleet answers with the object where it has to wait."""
    if answer.get("kind") == "Status":
        return "deleted"
    waiting = awaited(answer)
    return f"is being deleted, waits for {waiting}" if waiting else "is being deleted"
