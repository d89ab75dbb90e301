"""version: which edgevirt this is, and which the fleet runs."""

from __future__ import annotations

import click

from edgevirt import __version__
from edgevirt.cli.session import Session
from edgevirt.cli.tables import NOTHING
from edgevirt.cli.verb import Verb


@click.command(cls=Verb)
@click.option("--client", "alone", is_flag=True, help="This program's alone; no fleet is asked.")
@click.pass_obj
def version(session: Session, alone: bool) -> None:
    """Tell the versions of this program and of the fleet."""
    click.echo(f"Client: {__version__}")
    if alone:
        return
    told = session.client.read("/version").get("gitVersion", "")
    click.echo(f"Fleet:  {told.partition('+edgevirt.')[2] or told or NOTHING}")
