"""`edgevirt eci run`: an image tried on this machine, without any fleet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevirt.image.eci.verbs import CA, ca_pems, platform, progress, run_async, told

if TYPE_CHECKING:
    from edgevirt.image.eci.layout import Layout

_VIRTUALIZATIONS = ("None", "PV", "HVM", "FML", "Legacy")


@click.command(short_help="Run an image on this machine.")
@click.argument("image")
@click.option("--memory", metavar="SIZE", help="Such as 512Mi; default: what the image wants.")
@click.option("--cpus", type=click.IntRange(1, 256), help="Default: what the image wants.")
@click.option(
    "-p",
    "--forward",
    "forwards",
    multiple=True,
    metavar="PORT:PORT",
    help="A TCP port of this machine's loopback, and where it leads to. May be repeated.",
)
@click.option(
    "-e",
    "--env",
    "environment",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of a container. May be repeated.",
)
@click.option(
    "--virtualization",
    type=click.Choice(_VIRTUALIZATIONS),
    help="As in an App; default: what the image wants, else PV.",
)
@CA
def run(
    image: str,
    memory: str | None,
    cpus: int | None,
    forwards: tuple[str, ...],
    environment: tuple[str, ...],
    virtualization: str | None,
    ca: Path | None,
) -> None:
    """Run an IMAGE without any fleet: an OCI layout, what `build` takes, or a reference.

    A machine runs in QEMU (Ctrl-A X ends it). A container has a virtual machine of its own, whose
    kernel `edgevirt image guest` makes once, or with `--virtualization None` runc (Ctrl-C ends
    either; they need root). Nothing that it writes is kept.
    """
    import tempfile

    from edgevirt.host.kvm.acceleration import accelerator
    from edgevirt.image.eci import contained
    from edgevirt.image.eci import parts as reading
    from edgevirt.image.eci import run as running
    from edgevirt.model.quantity import whole
    from edgevirt.wire import oci

    try:
        size = whole(memory) if memory else 0
    except ValueError as error:
        raise click.BadParameter(f"--memory {error}") from error
    wish = running.Wish(
        size, cpus or 0, dict(map(_ports, forwards)), environment, virtualization or ""
    )
    with told(), tempfile.TemporaryDirectory(prefix="eci-run-", dir="/var/tmp") as name:
        scratch = Path(name)
        layout = run_async(_found(image, scratch, ca_pems(ca)))
        found = reading.read(layout, scratch, oci.machine())
        wanted = wish.virtualization or found.declared.wants.virtualization
        if not isinstance(found, reading.ContainerParts):
            code = running.run_machine(found, wish, scratch, accelerator())
        elif wanted == running.BARE:
            code = running.run_container(found, wish, scratch)
        else:
            code = contained.run_contained(found, wish, scratch, accelerator())
    sys.exit(code)


async def _found(image: str, scratch: Path, ca_pem: tuple[str, ...]) -> Layout:
    """The layout of what is to be run: made, or fetched, if need be."""
    from edgevirt.image.eci import build as building
    from edgevirt.image.eci import registry
    from edgevirt.image.eci import spec as specs
    from edgevirt.image.eci.layout import Layout

    layout = Layout(Path(image))
    if layout.exists():
        return layout
    made = Layout(scratch / "layout")
    if layout.directory.exists():
        spec, base = specs.load(layout.directory)
        building.build(spec, base, made)
        return made
    remote = registry.parse_remote(image)
    with progress() as tell:
        async with registry.source_of(remote, ca_pem) as source:
            await registry.pull(source, remote, made, platform(None), tell)
    return made


def _ports(text: str) -> tuple[int, int]:
    outer, colon, inner = text.partition(":")
    for port in (outer, inner):
        if not colon or not port.isdecimal() or not 0 < int(port) <= 0xFFFF:
            raise click.BadParameter(f"--forward {text!r} is not PORT:PORT")
    return int(outer), int(inner)
