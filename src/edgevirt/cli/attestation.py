"""What nodes prove: let policies learn builds, accept what a node shows, look at its proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edgevirt.cli.completing import complete_named
from edgevirt.cli.operate import YES
from edgevirt.cli.session import Session, fail
from edgevirt.cli.systems import MANIFEST
from edgevirt.cli.tables import NOTHING, ago, echo_table
from edgevirt.cli.verb import Verb, confirm

if TYPE_CHECKING:
    from edgevirt.client.resources import Object

NODE = click.argument("name", metavar="NODE", shell_complete=complete_named("edgenodes"))
_SHOWN: Final = 16
"""Hex digits of a register that are shown in a table."""


@click.group(short_help="Say what nodes must prove, and see what they do.")
def attestation() -> None:
    """Say what nodes must prove, and see what they do."""


@attestation.command(cls=Verb)
@click.argument("policy", shell_complete=complete_named("attestationpolicies"))
@MANIFEST
@click.option("--name", "state", default="", help="Of the state; default: the build's version.")
@click.option("--mode", type=click.Choice(["Enforce", "Report"]), default="Enforce",
              show_default=True, help="Of a policy that is made now.")  # fmt: skip
@click.pass_obj
def learn(session: Session, policy: str, manifest: Path, state: str, mode: str) -> None:
    """Let an AttestationPolicy accept a build; it is made if it is not there."""
    from edgevirt.cli.builds import read_build

    build = read_build(manifest)
    if not build.measurements:
        fail(f"cannot learn from {manifest}: the build was not measured")
    entry = {"name": state or build.version, "registers": dict(build.measurements)}
    type_ = session.type_of("attestationpolicies")
    scope = session.scope(type_)
    present = session.client.find(type_, scope, policy)
    if present is None:
        body: Object = {
            "apiVersion": type_.api_version,
            "kind": type_.kind,
            "metadata": {"name": policy},
            "spec": {"mode": mode, "accepted": [entry]},
        }
        session.client.create(type_, scope, body)
        done = f"created ({mode})"
    else:
        others = [a for a in present["spec"].get("accepted", []) if a["name"] != entry["name"]]
        change = {
            "metadata": {"resourceVersion": present["metadata"]["resourceVersion"]},
            "spec": {"accepted": [*others, entry]},
        }
        session.client.patch(type_, scope, policy, change, style="merge")
        done = "configured"
    registers = ", ".join(sorted(build.measurements, key=int))
    told = f"accepts {entry['name']} by registers {registers}"
    click.echo(f"{type_.singular}/{policy} {done}: {told}")


@attestation.command(cls=Verb)
@NODE
@click.option("--register", "numbers", type=click.IntRange(0, 15), multiple=True, metavar="NUMBER",
              help="Only this one; may be repeated. Default: all that differ.")  # fmt: skip
@YES
@click.pass_obj
def accept(session: Session, name: str, numbers: tuple[int, ...], yes: bool) -> None:
    """Accept of one node what differs from its policy now.

    The values go into its spec.trustedRegisters. What they stand for, nobody but you has judged.
    """
    body = _node(session, name)
    differing = [
        difference
        for difference in _proof(body).get("differences", [])
        if difference.get("got") and (not numbers or difference.get("register", 0) in numbers)
    ]
    if not differing:
        fail(f"cannot accept anything of {name}: it showed nothing that differs")
    for difference in differing:
        click.echo(
            f"register {difference.get('register', 0)}: {difference.get('why', '')}", err=True
        )
    listed = ", ".join(str(difference.get("register", 0)) for difference in differing)
    confirm(f"accept what {name} shows in register {listed}?", yes=yes)
    trusted = {str(difference.get("register", 0)): [difference["got"]] for difference in differing}
    type_ = session.type_of("edgenodes")
    change = {
        "metadata": {"resourceVersion": body["metadata"]["resourceVersion"]},
        "spec": {"trustedRegisters": trusted},
    }
    session.client.patch(type_, session.scope(type_), name, change, style="merge")
    click.echo(f"{type_.singular}/{name}: register {listed} accepted; it proves itself within 15 s")


@attestation.command(cls=Verb)
@NODE
@click.option("--events", is_flag=True, help="Also the events of its log.")
@click.pass_obj
def show(session: Session, name: str, events: bool) -> None:
    """Show what a node proved the last time, and how that was judged."""
    body = _node(session, name)
    status, proof = body.get("status") or {}, _proof(body)
    conditions: list[Object] = status.get("conditions") or []
    why = next((c.get("message") for c in conditions if c["type"] == "Attested"), "")
    bare = status.get("trust") == "SoftwareKey"  # it was judged, but there was nothing to prove
    rows = (
        ("Trust", status.get("trust") or NOTHING),
        ("Why", why or NOTHING),
        ("Proved", ago(proof["at"]) if proof.get("at") and not bare else NOTHING),
        ("Policy", proof.get("policy") or NOTHING),
        ("Accepted as", proof.get("acceptedAs") or NOTHING),
        ("Firmware", proof.get("firmware") or NOTHING),
        ("Event log", proof.get("log") or NOTHING),
    )
    for title, text in rows:
        click.echo(click.style(f"{title + ':':<14}", bold=True) + text)
    _show_registers(proof)
    if events:
        _show_events(session, name)


def _show_registers(proof: Object) -> None:
    values = proof.get("registers") or {}
    if not values:
        return
    differing = {str(d.get("register", 0)): d for d in proof.get("differences", ())}
    pinned = proof.get("pinned") or {}
    rows = []
    for number in sorted(values, key=int):
        difference = differing.get(number)
        if difference:
            accepted = _short(*difference.get("expected", ()))
            judged = f"differs from {accepted}: {difference.get('why', '')}"
        elif not values[number].strip("0"):
            continue  # nothing was ever measured into it
        else:
            judged = "as it was at first" if number in pinned else ""
        rows.append((number, _short(values[number]), judged))
    click.echo()
    echo_table(("register", "value", "judged"), rows)


def _short(*values: str) -> str:
    return " or ".join(value[:_SHOWN] for value in values)


def _show_events(session: Session, name: str) -> None:
    type_ = session.type_of("edgenodes")
    kept = session.client.find(type_, session.scope(type_), name, "attestation")
    if kept is None:
        click.echo("\nThere are no events: it has shown no log of its boot.")
        return
    rows = [(e["register"], e["digest"][:_SHOWN], e["what"]) for e in kept.get("events", ())]
    click.echo()
    echo_table(("register", "digest", "what was measured"), rows)
    if more := kept.get("moreEvents"):
        click.echo(f"… and {more} more")


def _node(session: Session, name: str) -> Object:
    type_ = session.type_of("edgenodes")
    return session.client.get(type_, session.scope(type_), name)


def _proof(body: Object) -> Object:
    found: Object = (body.get("status") or {}).get("attestation") or {}
    return found
