"""`edgevirt eci build|push|pull|inspect`: an image made, sent, fetched, looked at."""

from __future__ import annotations

from pathlib import Path

import click

from edgevirt.image.eci.verbs import (
    ARCHITECTURE,
    CA,
    DIRECTORY,
    ca_pems,
    platform,
    progress,
    run_async,
    told,
)


@click.command(short_help="Make an image of disks, a kernel, or directories.")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option(
    "-o", "--output", type=DIRECTORY, required=True, metavar="DIR", help="The OCI layout."
)
@ARCHITECTURE
@click.option("--name", default="latest", show_default=True, help="Its tag within the layout.")
@click.option("--entrypoint", metavar="WORDS", help="A container's command, split at spaces.")
def build(source: Path, output: Path, arch: str | None, name: str, entrypoint: str | None) -> None:
    """Make an image of SOURCE: a YAML file, a directory, or a disk.

    A directory may hold an eci.yaml; or files named kernel, initrd, disk-root-* and disk-0-*; or
    else it is a container's root file system.
    """
    from msgspec import structs

    from edgevirt.image.eci import build as building
    from edgevirt.image.eci import spec as specs
    from edgevirt.image.eci.layout import Layout

    with told():
        spec, base = specs.load(source)
        if arch:
            spec = structs.replace(spec, architecture=arch)
        if entrypoint:
            spec = structs.replace(spec, entrypoint=tuple(entrypoint.split()))
        digest = building.build(spec, base, Layout(output), name)
    if spec.files and not (spec.entrypoint or spec.command):
        click.echo(
            "warning: the image names no command, so each App of it has to; --entrypoint sets one",
            err=True,
        )
    click.echo(digest)


@click.command(short_help="Send an image to a registry.")
@click.argument("layout", type=DIRECTORY)
@click.argument("reference")
@CA
def push(layout: Path, reference: str, ca: Path | None) -> None:
    """Send the image in the OCI layout LAYOUT to HOST/REPOSITORY[:TAG]."""
    from edgevirt.image.eci import registry
    from edgevirt.image.eci.layout import Layout

    async def work() -> str:
        remote = registry.parse_remote(reference)
        with progress() as tell:
            async with registry.pusher_to(remote, ca_pems(ca), tell) as pusher:
                return await registry.push(Layout(layout), remote, pusher)

    with told():
        click.echo(run_async(work()))


@click.command(short_help="Fetch an image from a registry.")
@click.argument("reference")
@click.option(
    "-o", "--output", type=DIRECTORY, required=True, metavar="DIR", help="The OCI layout."
)
@ARCHITECTURE
@CA
def pull(reference: str, output: Path, arch: str | None, ca: Path | None) -> None:
    """Fetch HOST/REPOSITORY[:TAG][@DIGEST] into an OCI layout; goes on where it broke off."""
    from edgevirt.image.eci import registry
    from edgevirt.image.eci.layout import Layout

    async def work() -> str:
        remote = registry.parse_remote(reference)
        with progress() as tell:
            async with registry.source_of(remote, ca_pems(ca)) as source:
                return await registry.pull(source, remote, Layout(output), platform(arch), tell)

    with told():
        click.echo(run_async(work()))


@click.command(short_help="Tell what an image is.")
@click.argument("image")
@click.option("-o", "--output", "form", type=click.Choice(["text", "json"]), default="text")
@ARCHITECTURE
@CA
def inspect(image: str, form: str, arch: str | None, ca: Path | None) -> None:
    """Tell what an IMAGE is: an OCI layout, or HOST/REPOSITORY[:TAG][@DIGEST]."""
    import tempfile

    import msgspec

    from edgevirt.image.eci import registry
    from edgevirt.image.eci.describe import Description, describe, lines
    from edgevirt.image.eci.layout import Layout
    from edgevirt.model.ids import Digest

    async def remote_one(scratch: str) -> Description:
        remote = registry.parse_remote(image, named=True)
        layout = Layout(Path(scratch, "layout"))
        async with registry.source_of(remote, ca_pems(ca)) as source:
            _, digest = await registry.read_manifest(source, remote, layout, platform(arch))
        return describe(layout, digest, platform(arch))

    with told(), tempfile.TemporaryDirectory() as scratch:
        if Path(image).is_dir():
            layout = Layout(Path(image))
            found = describe(layout, Digest(layout.root().digest), platform(arch))
        else:
            found = run_async(remote_one(scratch))
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        for line in lines(found):
            click.echo(line)
