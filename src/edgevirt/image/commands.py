"""`edgevirt image`: the builder's commands."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from edgevirt.image.errors import ImageError
from edgevirt.image.recipe import Arch, Variant

CACHE_VARIABLE: Final = "EDGEVIRT_IMAGE_CACHE"

FindUsers = Callable[[], tuple[tuple[str, int], ...]]
"""Finds the node's services and their users, (name, uid): the context's object. The builder knows
no node."""

VARIANT: Final = click.option(
    "--variant",
    type=click.Choice([v.value for v in Variant]),
    default=Variant.KVM.value,
    show_default=True,
    help="Its hypervisor.",
)
ARCH: Final = click.option(
    "--arch",
    type=click.Choice([a.value for a in Arch]),
    default=Arch.AMD64.value,
    show_default=True,
    help="Of the machines that it is for.",
)
CACHE: Final = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=CACHE_VARIABLE,
    default=Path("build/image/cache"),
    show_default=True,
    metavar="DIR",
    help=f"Outputs of steps, by the hash of their inputs; also {CACHE_VARIABLE}.",
)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What cannot be done, as one sentence; a bug keeps its traceback."""
    try:
        yield
    except ImageError as error:
        raise click.ClickException(str(error)) from None


@click.group(short_help="Build the node's operating system.")
def image() -> None:
    """The node's operating system as an image: built from Debian packages and this checkout."""


@image.command(short_help="Build the root image and the disks.")
@click.pass_obj
@VARIANT
@ARCH
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/image"),
    show_default=True,
    metavar="DIR",
    help="Where the artifacts go, each variant's in a folder of its own.",
)
@click.option("--qcow2", is_flag=True, help="Write live.qcow2 as well: a disk of 8 GiB.")
@CACHE
def build(users: FindUsers, variant: str, arch: str, out: Path, qcow2: bool, cache: Path) -> None:
    """Build the root image and the disks; what did not change is not made again."""
    from edgevirt.image.build import open_build
    from edgevirt.image.release.artifacts import release, write_qcow2

    began = time.monotonic()
    with _told():
        made = open_build(Variant(variant), Arch(arch), cache, users(), _say)
        version = release(made, out / made.settings.name)
        if qcow2:
            write_qcow2(out / made.settings.name)
    click.echo(f"{version} in {out / made.settings.name} ({time.monotonic() - began:.1f} s)")


def _say(text: str) -> None:
    click.echo(f"  {text}")


@image.command(short_help="Give a disk what one node needs to know.")
@click.argument("disk", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    metavar="DIR",
    help="Files for CONFIG: what `edgevirt fleet node-config` wrote, grub.cfg, and so on.",
)
@click.option("--gib", type=click.IntRange(2), help="Make the disk's file this large first.")
@CACHE
def configure(disk: Path, config: Path, gib: int | None, cache: Path) -> None:
    """Put files into the CONFIG partition of a live disk or an installer, in place of old ones."""
    from edgevirt.image.build import open_tools
    from edgevirt.image.disks.configure import configure as put
    from edgevirt.image.disks.configure import enlarge

    with _told():
        if gib:
            enlarge(disk, gib << 30)
        names = put(disk, config, open_tools(cache))
    click.echo(f"{disk}: CONFIG has {', '.join(names)}")


@image.command(short_help="Make what containers in virtual machines start with.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(sys.prefix) / "share/edgevirt/guest",
    metavar="DIR",
    help="Where the kernels and their initrds go; as it is, where host-mode nodes look.",
)
@CACHE
def guest(out: Path, cache: Path) -> None:
    """Make the kernel and the initrd of the virtual machine that a container runs in, and those of
    one that has devices, with their drivers.
    """
    from edgevirt.image.build import open_build
    from edgevirt.image.parts.guest import publish

    with _told():
        publish(open_build(Variant.KVM, Arch.AMD64, cache, (), _say).guest().path, out)
    click.echo(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


@image.command(short_help="Lock the Debian packages anew.")
@VARIANT
@ARCH
@click.option("--tools", "only_tools", is_flag=True, help="Lock the build's own programs instead.")
@click.option("--guest", "only_guest", is_flag=True, help="Lock what `image guest` takes instead.")
def lock(variant: str, arch: str, only_tools: bool, only_guest: bool) -> None:
    """Ask this machine's Debian mirror for the newest packages, and lock them by hash."""
    from edgevirt.image.packages.apt import write_lock
    from edgevirt.image.packages.lock import LOCKS
    from edgevirt.image.parts.guest import guest_groups
    from edgevirt.image.recipe import groups, tools

    name, wanted = variant, groups(Variant(variant), Arch(arch))
    if only_tools:
        name, wanted = "tools", (tools(),)
    if only_guest:
        name, wanted = "guest", guest_groups()
    path = LOCKS / f"{name}-{arch}.lock"
    with _told():
        count = write_lock(path, wanted, arch)
    click.echo(f"{count} packages locked in {path}")
