"""What the verbs of `edgevirt eci` share: their words, how they end, how far they are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")

DIRECTORY = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_ARCHITECTURES = ("amd64", "arm64", "arm", "riscv64")
CA = click.option(
    "--ca", "ca", type=FILE, metavar="FILE", help="Trust this CA for the registry (PEM)."
)
ARCHITECTURE = click.option(
    "--arch", type=click.Choice(_ARCHITECTURES), help="Of the machine; default: this one's."
)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    import asyncio  # costs time that a help text needs not

    return asyncio.run(work)


def ca_pems(ca: Path | None) -> tuple[str, ...]:
    return (ca.read_text(),) if ca is not None else ()


def password_of(path: Path | None) -> bytes | None:
    return path.read_bytes().rstrip(b"\r\n") if path is not None else None


def platform(arch: str | None) -> Any:
    from edgevirt.wire import oci

    return oci.platform_of(arch) if arch else oci.machine()


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What goes wrong, as one sentence; a bug keeps its traceback."""
    from edgevirt.host.content.partial import DiskFull
    from edgevirt.host.fetch import CannotFetch
    from edgevirt.image.eci.layout import LayoutError
    from edgevirt.image.eci.logins import LoginError
    from edgevirt.image.eci.oci import CannotPush
    from edgevirt.image.eci.run import CannotRun
    from edgevirt.image.eci.signing import NotSigned
    from edgevirt.image.eci.spec import SpecError
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
def progress() -> Iterator[Any]:
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

        def tell(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = shown.add_task(what[:19], total=total or None)
            shown.update(bars[what], completed=done)

        yield tell
