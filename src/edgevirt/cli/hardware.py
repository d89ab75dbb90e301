"""A HardwareModel to begin with, from what a node tells of its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgevirt.cli.completing import complete_named
from edgevirt.cli.session import Session
from edgevirt.cli.verb import Verb

if TYPE_CHECKING:
    from edgevirt.client.resources import Object


@click.command(cls=Verb)
@click.argument("node", metavar="NODE", shell_complete=complete_named("edgenodes"))
@click.option("--model", default="", help="Its name; default: the node's.")
@click.pass_obj
def hardware(session: Session, node: str, model: str) -> None:
    """Print a HardwareModel of a node's machine, as a manifest to be edited and applied.

    Such as `edgevirt hardware line-4 --model acme-box-3 >model.yaml`.
    """
    from edgevirt.cli import manifests

    type_ = session.type_of("edgenodes")
    path = type_.path(session.scope(type_), node, "hardware")
    found = session.client.read(path, **({"model": model} if model else {}))
    click.echo(manifests.to_yaml(without_zeros(found)), nl=False)


def without_zeros(model: Object) -> Object:
    """A count of virtual functions says nothing of a device that has none."""
    adapters = [
        {key: value for key, value in adapter.items() if key != "virtualFunctions" or value}
        for adapter in model["spec"].get("adapters", ())
    ]
    return {**model, "spec": {**model["spec"], "adapters": adapters}}
