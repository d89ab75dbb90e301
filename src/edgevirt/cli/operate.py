"""Verbs of the edge's own: let nodes in, restart and purge apps, reboot nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from edgevirt.cli.completing import complete_named
from edgevirt.cli.session import Session, fail
from edgevirt.cli.verb import Attempts, Verb, confirm

if TYPE_CHECKING:
    from edgevirt.client.resources import Object, ResourceType

YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
APPS = click.argument("names", nargs=-1, required=True, metavar="APPINSTANCE…",
                      shell_complete=complete_named("appinstances"))  # fmt: skip
NODES = click.argument("names", nargs=-1, required=True, metavar="NODE…",
                       shell_complete=complete_named("edgenodes"))  # fmt: skip
REQUESTS = click.argument("names", nargs=-1, required=True, metavar="REQUEST…",
                          shell_complete=complete_named("enrollmentrequests"))  # fmt: skip
_CONFLICT = 409
_ATTEMPTS = 5


@click.command(cls=Verb)
@APPS
@click.pass_obj
def restart(session: Session, names: tuple[str, ...]) -> None:
    """Stop app instances and start them again; their volumes stay."""
    raise_counters(session, "appinstances", names, "restartCounter", "restart")


@click.command(cls=Verb)
@APPS
@YES
@click.pass_obj
def purge(session: Session, names: tuple[str, ...], yes: bool) -> None:
    """Start app instances over with empty volumes: what they kept is lost."""
    _look_for(session, "appinstances", names, yes=yes)
    confirm(f"purge {', '.join(names)}? What they keep on their volumes is lost.", yes=yes)
    raise_counters(session, "appinstances", names, "purgeCounter", "purge")


@click.command(cls=Verb)
@NODES
@YES
@click.pass_obj
def reboot(session: Session, names: tuple[str, ...], yes: bool) -> None:
    """Reboot edge nodes; their apps stop meanwhile."""
    _look_for(session, "edgenodes", names, yes=yes)
    confirm(f"reboot {', '.join(names)}? Their apps stop meanwhile.", yes=yes)
    raise_counters(session, "edgenodes", names, "rebootCounter", "reboot")


def _look_for(session: Session, plural: str, names: Iterable[str], *, yes: bool) -> None:
    """Nobody is asked about what is not there."""
    type_ = session.type_of(plural)
    for name in () if yes else names:
        session.client.get(type_, session.scope(type_), own_name(session, type_, name))


def raise_counters(
    session: Session, plural: str, names: Iterable[str], field: str, what: str
) -> None:
    """`field`: of the spec, with a dot before one of its part, which must be there."""
    type_ = session.type_of(plural)
    attempts = Attempts()
    for name in names:
        with attempts.each():
            own = own_name(session, type_, name)
            count = _raise_counter(session, type_, own, field)
            told = field.rpartition(".")[2]
            click.echo(f"{type_.singular}/{own}: {what} asked for ({told} {count})")
    attempts.finish()


def own_name(session: Session, type_: ResourceType, word: str) -> str:
    """`NAME`, or `TYPE/NAME` of the right type."""
    kind, slash, name = word.rpartition("/")
    if slash and session.type_of(kind) != type_:
        fail(f"cannot do that to {word}: it is no {type_.singular}")
    return name


def change_as_it_is(
    session: Session, type_: ResourceType, name: str, change: Callable[[Object], Object]
) -> None:
    """Merges what `change` makes of the object as it is, and again when somebody else was faster:
    its status changes all the time.
    """
    from edgevirt.client.errors import Refused

    scope = session.scope(type_)
    for attempt in range(_ATTEMPTS):
        body = session.client.get(type_, scope, name)
        version = {"resourceVersion": body["metadata"]["resourceVersion"]}
        merged = {**change(body), "metadata": version}
        try:
            session.client.patch(type_, scope, name, merged, style="merge")
        except Refused as refused:
            if refused.code != _CONFLICT or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _raise_counter(session: Session, type_: ResourceType, name: str, field: str) -> int:
    """By one, from what it is: two who ask at once are counted twice."""
    count = 0

    def raised(body: Object) -> Object:
        nonlocal count
        part, _, leaf = field.rpartition(".")
        present = body["spec"].get(part) if part else body["spec"]
        if present is None:
            fail(
                f"cannot do that to {name}: it has no spec.{part}",
                "edgevirt os update brings it to an OSImage first" if part == "os" else "",
            )
        count = int(present.get(leaf) or 0) + 1
        return {"spec": {part: {leaf: count}} if part else {leaf: count}}

    change_as_it_is(session, type_, name, raised)
    return count


@click.command(cls=Verb)
@REQUESTS
@click.option("--name", "node", default="", help="Of the EdgeNode; else made from the serial.")
@click.pass_obj
def approve(session: Session, names: tuple[str, ...], node: str) -> None:
    """Let machines in that ask to become nodes.

    `edgevirt get requests -o wide` lists them with the fingerprints of their certificates.
    """
    if node and len(names) > 1:
        fail("cannot give several nodes one name", "approve them one by one")
    answer = {"approved": True} | ({"nodeName": node} if node else {})
    _answer(session, names, answer, "approved")


@click.command(cls=Verb)
@REQUESTS
@click.pass_obj
def deny(session: Session, names: tuple[str, ...]) -> None:
    """Refuse machines that ask to become nodes."""
    _answer(session, names, {"approved": False}, "denied")


def _answer(session: Session, names: Iterable[str], answer: Object, what: str) -> None:
    """Through the subresource, which may be granted to people who may do nothing else."""
    type_ = session.type_of("enrollmentrequests")
    attempts = Attempts()
    for name in names:
        with attempts.each():
            own = own_name(session, type_, name)
            session.client.patch(
                type_, session.scope(type_), own, {"spec": answer}, style="merge", sub="approval"
            )
            click.echo(f"{type_.singular}/{own} {what}")
    attempts.finish()
