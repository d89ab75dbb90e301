"""rollback: an app as it was before an update, with the data that it had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgevirt.cli.operate import APPS, YES, change_as_it_is, own_name
from edgevirt.cli.session import Session, fail
from edgevirt.cli.verb import Attempts, Verb, confirm

if TYPE_CHECKING:
    from edgevirt.client.resources import Object

_LEAST = 4
"""Characters of an id by which a snapshot may be named."""


@click.command(cls=Verb)
@APPS
@click.option("--to", "wanted", metavar="ID", default="",
              help="The snapshot, or the beginning of its id; else the newest.")  # fmt: skip
@click.option("--undo", is_flag=True, help="Forward again, to what the App says.")
@YES
@click.pass_obj
def rollback(session: Session, names: tuple[str, ...], wanted: str, undo: bool, yes: bool) -> None:
    """Bring app instances back to a snapshot: the old version, and the data of then.

    They stay there until their App changes or `--undo`. `edgevirt describe appinstance` lists
    the snapshots; an App with `snapshots.max` keeps one before each update.
    """
    if undo and wanted:
        fail("cannot go to a snapshot and undo a rollback at once")
    if wanted and len(names) > 1:
        fail("cannot bring several apps to one snapshot", "roll them back one by one")
    type_ = session.type_of("appinstances")
    if not (undo or yes):
        for name in names:  # nobody is asked about what cannot be done
            own = own_name(session, type_, name)
            _choose(session.client.get(type_, session.scope(type_), own), wanted)
        confirm(f"roll back {', '.join(names)}? Data written since is lost.", yes=yes)
    attempts = Attempts()
    for name in names:
        with attempts.each():
            own = own_name(session, type_, name)
            id = ""

            def back(body: Object) -> Object:
                nonlocal id
                id = "" if undo else _choose(body, wanted)
                counter = int((body["spec"].get("rollback") or {}).get("counter") or 0) + 1
                return {"spec": {"rollback": {"snapshot": id, "counter": counter}}}

            change_as_it_is(session, type_, own, back)
            asked = f"rollback to snapshot {id} asked for" if id else "forward again asked for"
            click.echo(f"{type_.singular}/{own}: {asked}")
    attempts.finish()


def _choose(body: Object, wanted: str) -> str:
    """An id of one of its snapshots."""
    name = body["metadata"]["name"]
    taken = [
        one["id"] for one in (body.get("status") or {}).get("snapshots") or () if one.get("takenAt")
        and one.get("version")
    ]  # fmt: skip
    if not taken:
        fail(
            f"cannot roll back {name}: it has no snapshot",
            "an App with spec.snapshots.max keeps one before each update",
        )
    if not wanted:
        return str(taken[-1])
    found = [
        id for id in taken if id == wanted or (len(wanted) >= _LEAST and id.startswith(wanted))
    ]
    if len(found) != 1:
        fail(
            f"cannot roll back {name}: it has no one snapshot {wanted}",
            f"it has {', '.join(taken)}",
        )
    return str(found[0])
