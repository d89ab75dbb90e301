"""`edgevirt eci …`. Each verb imports what it needs when it is called."""

from __future__ import annotations

import click

from edgevirt.image.eci.making_verbs import build, inspect, pull, push
from edgevirt.image.eci.running_verbs import run
from edgevirt.image.eci.signing_verbs import make_key, sign, verify


@click.group(short_help="Edge Container Images: build, push, pull, look, sign, try.")
def eci() -> None:
    """Edge Container Images: any workload as one OCI artifact."""


for verb in (build, push, pull, inspect, make_key, sign, verify, run):
    eci.add_command(verb)
