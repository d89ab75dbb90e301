"""`edgevirt eci …`. Each verb imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgevirt.image.eci.layout import Layout

T = TypeVar("T")

_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_ARCHITECTURES = ("amd64", "arm64", "arm", "riscv64")
_VIRTUALIZATIONS = ("None", "PV", "HVM", "FML", "Legacy")
CA = click.option(
    "--ca", "ca", type=_FILE, metavar="FILE", help="Trust this CA for the registry (PEM)."
)
ARCHITECTURE = click.option(
    "--arch", type=click.Choice(_ARCHITECTURES), help="Of the machine; default: this one's."
)


@click.group(short_help="Edge Container Images: build, push, pull, look, sign, try.")
def eci() -> None:
    """Edge Container Images: any workload as one OCI artifact."""


@eci.command(short_help="Make an image of disks, a kernel, or directories.")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option(
    "-o", "--output", type=_DIRECTORY, required=True, metavar="DIR", help="The OCI layout."
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

    with _told():
        spec, base = specs.load(source)
        if arch:
            spec = structs.replace(spec, architecture=arch)
        if entrypoint:
            spec = structs.replace(spec, entrypoint=tuple(entrypoint.split()))
        digest = building.build(spec, base, Layout(output), name)
    click.echo(digest)


@eci.command(short_help="Send an image to a registry.")
@click.argument("layout", type=_DIRECTORY)
@click.argument("reference")
@CA
def push(layout: Path, reference: str, ca: Path | None) -> None:
    """Send the image in the OCI layout LAYOUT to HOST/REPOSITORY[:TAG]."""
    from edgevirt.image.eci import registry
    from edgevirt.image.eci.layout import Layout

    async def work() -> str:
        remote = registry.parse_remote(reference)
        with _progress() as told:
            async with registry.pusher_to(remote, _pems(ca), told) as pusher:
                return await registry.push(Layout(layout), remote, pusher)

    with _told():
        click.echo(_run(work()))


@eci.command(short_help="Fetch an image from a registry.")
@click.argument("reference")
@click.option(
    "-o", "--output", type=_DIRECTORY, required=True, metavar="DIR", help="The OCI layout."
)
@ARCHITECTURE
@CA
def pull(reference: str, output: Path, arch: str | None, ca: Path | None) -> None:
    """Fetch HOST/REPOSITORY[:TAG][@DIGEST] into an OCI layout; goes on where it broke off."""
    from edgevirt.image.eci import registry
    from edgevirt.image.eci.layout import Layout

    async def work() -> str:
        remote = registry.parse_remote(reference)
        with _progress() as told:
            async with registry.source_of(remote, _pems(ca)) as source:
                return await registry.pull(source, remote, Layout(output), _platform(arch), told)

    with _told():
        click.echo(_run(work()))


@eci.command(short_help="Tell what an image is.")
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
        remote = registry.parse_remote(image)
        layout = Layout(Path(scratch, "layout"))
        async with registry.source_of(remote, _pems(ca)) as source:
            _, digest = await registry.read_manifest(source, remote, layout, _platform(arch))
        return describe(layout, digest, _platform(arch))

    with _told(), tempfile.TemporaryDirectory() as scratch:
        if Path(image).is_dir():
            layout = Layout(Path(image))
            found = describe(layout, Digest(layout.root().digest), _platform(arch))
        else:
            found = _run(remote_one(scratch))
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        for line in lines(found):
            click.echo(line)


@eci.command("make-key", short_help="Make a key pair to sign with.")
@click.argument("name", type=click.Path(path_type=Path))
@click.option("--password-file", type=_FILE, metavar="FILE", help="Encrypt the private key.")
def make_key(name: Path, password_file: Path | None) -> None:
    """Make NAME.key, which signs, and NAME.pub, which proves."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgevirt.wire import cosign

    key = ec.generate_private_key(ec.SECP256R1())
    password = _password(password_file)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )
    with _told():
        private, public = name.with_name(name.name + ".key"), name.with_name(name.name + ".pub")
        descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(sealed)
        public.write_text(cosign.public_pem(key))
    click.echo(f"wrote {private} (keep it secret) and {public}")


@eci.command(short_help="Sign an image in a registry.")
@click.argument("reference")
@click.option("--key", type=_FILE, required=True, metavar="FILE", help="Private key (PEM, P-256).")
@click.option("--password-file", type=_FILE, metavar="FILE", help="Opens the key.")
@CA
def sign(reference: str, key: Path, password_file: Path | None, ca: Path | None) -> None:
    """Sign HOST/REPOSITORY[:TAG][@DIGEST]: its digest, as cosign does, beside the image."""
    from edgevirt.image.eci import registry, signing
    from edgevirt.wire import cosign

    async def work(opened: ec.EllipticCurvePrivateKey) -> str:
        remote = registry.parse_remote(reference)
        async with (
            registry.source_of(remote, _pems(ca)) as source,
            registry.pusher_to(remote, _pems(ca)) as pusher,
        ):
            return await signing.sign(source, pusher, remote, opened)

    with _told():
        opened = cosign.parse_private_key(key.read_bytes(), _password(password_file))
        click.echo(_run(work(opened)))


@eci.command(short_help="Prove an image's signatures.")
@click.argument("reference")
@click.option(
    "--key", "keys", type=_FILE, required=True, multiple=True, metavar="FILE",
    help="Public key (PEM); one of them must have signed. May be repeated.",
)  # fmt: skip
@CA
def verify(reference: str, keys: tuple[Path, ...], ca: Path | None) -> None:
    """Prove that HOST/REPOSITORY[:TAG][@DIGEST] is signed by a key; exit status 1 if not."""
    from edgevirt.image.eci import registry, signing

    async def work() -> str:
        remote = registry.parse_remote(reference)
        pems = tuple(path.read_text() for path in keys)
        async with registry.source_of(remote, _pems(ca)) as source:
            digest, found = await signing.verify(source, remote, pems)
        names = ", ".join(str(keys[pems.index(pem)]) for pem in found)
        return f"{digest} signed by {names}"

    with _told():
        click.echo(_run(work()))


@eci.command(short_help="Run an image on this machine.")
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
    with _told(), tempfile.TemporaryDirectory(prefix="eci-run-", dir="/var/tmp") as name:
        scratch = Path(name)
        layout = _run(_found(image, scratch, _pems(ca)))
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
    with _progress() as told:
        async with registry.source_of(remote, ca_pem) as source:
            await registry.pull(source, remote, made, _platform(None), told)
    return made


def _ports(text: str) -> tuple[int, int]:
    outer, colon, inner = text.partition(":")
    for port in (outer, inner):
        if not colon or not port.isdecimal() or not 0 < int(port) <= 0xFFFF:
            raise click.BadParameter(f"--forward {text!r} is not PORT:PORT")
    return int(outer), int(inner)


# -- what the verbs share -------------------------------------------------------------------------


def _run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)


def _pems(ca: Path | None) -> tuple[str, ...]:
    return (ca.read_text(),) if ca is not None else ()


def _password(path: Path | None) -> bytes | None:
    return path.read_bytes().rstrip(b"\r\n") if path is not None else None


def _platform(arch: str | None) -> Any:
    from edgevirt.wire import oci

    return oci.platform_of(arch) if arch else oci.machine()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong, as one sentence; a bug keeps its traceback."""
    from edgevirt.host.content.partial import DiskFull
    from edgevirt.host.fetch import CannotFetch
    from edgevirt.image.eci.layout import LayoutError
    from edgevirt.image.eci.logins import LoginError
    from edgevirt.image.eci.run import CannotRun
    from edgevirt.image.eci.signing import NotSigned
    from edgevirt.image.eci.spec import SpecError
    from edgevirt.image.oci import CannotPush
    from edgevirt.wire.cosign import BadKey
    from edgevirt.wire.errors import BadDocument

    known = (
        *(CannotFetch, CannotPush, DiskFull, LayoutError, LoginError, NotSigned, SpecError),
        *(BadKey, BadDocument, CannotRun),
    )
    try:
        yield
    except known as error:
        raise click.ClickException(str(error)) from error
    except BaseExceptionGroup as group:
        first = group.exceptions[0]
        if not isinstance(first, (*known, OSError)):
            raise
        raise click.ClickException(str(first)) from group
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"cannot go on: {where}{error.strerror or error}") from error


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Bars on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    bars: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=Console(stderr=True), transient=True
    ) as shown:

        def told(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = shown.add_task(what[:19], total=total or None)
            shown.update(bars[what], completed=done)

        yield told
