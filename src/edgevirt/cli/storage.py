"""Where a node's disk went, for `describe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from edgevirt.cli.session import Session
from edgevirt.cli.tables import age, size

if TYPE_CHECKING:
    from edgevirt.client.resources import ResourceType

_ROWS: Final = (
    ("reserved for the node", "reservedBytes"),
    ("images", "contentBytes"),
    ("promised to volumes", "volumesBytes"),
    ("snapshots", "snapshotsBytes"),
    ("in use", "diskBytes"),
    ("size", "diskLimitBytes"),
)


def echo_storage(session: Session, type_: ResourceType, scope: str, name: str) -> None:
    """Nothing of a node that has told nothing."""
    usage = session.client.find(type_, scope, name, "metrics")
    if usage is None:
        return
    rows = [(title, usage[field]) for title, field in _ROWS if usage.get(field) is not None]
    if rows:
        click.secho(f"Storage, {age(usage.get('timestamp'))} ago:", bold=True)
        for title, value in rows:
            click.echo(f"  {title + ':':<24}{size(value)}")
