"""overwrite: an old fleet's config for a node that has a newer one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgevirt.cli.operate import NODES, YES, change_as_it_is, own_name
from edgevirt.cli.session import Session, fail
from edgevirt.cli.verb import Attempts, Verb, confirm

if TYPE_CHECKING:
    from edgevirt.client.resources import Object


@click.command(cls=Verb)
@NODES
@YES
@click.pass_obj
def overwrite(session: Session, names: tuple[str, ...], yes: bool) -> None:
    """Give nodes the config that is held back because they have a newer one than the fleet knows.

    That is so after the fleet was restored from a backup. A node deletes what isn't in the config
    that it gets, with its data.
    """
    type_ = session.type_of("edgenodes")
    attempts = Attempts()
    for name in names:
        with attempts.each():
            own = own_name(session, type_, name)
            held = _held(session.client.get(type_, session.scope(type_), own), own)
            confirm(f"overwrite the config of {own}? {_losses(held)}", yes=yes)
            agreed = {"spec": {"overwriteConfig": held["mark"]}}
            change_as_it_is(session, type_, own, lambda _body, agreed=agreed: agreed)  # type: ignore[misc]
            click.echo(f"{type_.singular}/{own}: its config goes out when it asks next")
    attempts.finish()


def _held(body: Object, name: str) -> Object:
    held: Object | None = body.get("status", {}).get("heldConfig")
    if not held:
        fail(f"cannot overwrite the config of {name}: none is held back")
    return held


def _losses(held: Object) -> str:
    kept = [
        f"\n  {what} {one.get('name') or one['id']} ({one['id']})"
        for what, field in (("app", "apps"), ("volume", "volumes"))
        for one in held.get(field, ())
    ]
    version = held.get("version")
    more = f"It changes to version {version} of its software. " if version else ""
    if kept:
        return f"{more}It deletes, with all data:{''.join(kept)}\nGo on?"
    if held.get("toldAt"):
        return f"{more}It tells of nothing that isn't in it."
    return f"{more}What it would delete it has yet to tell: that takes a minute or two."
