"""Gives a build out: its artifacts, for people to copy and change, and a manifest beside them."""

from __future__ import annotations

from pathlib import Path

from edgevirt.image.build import Build
from edgevirt.image.programs import run


def release(build: Build, folder: Path) -> str:
    """Returns the version. Raises ImageError."""
    image, version = build.root()
    disk = build.live()
    publish(image.path, folder / "root.squashfs")
    publish(disk.path, folder / "live.raw")
    return version


def publish(source: Path, target: Path) -> None:
    """A copy of an output; zeros take no room."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    run("cp", "--sparse=always", "--reflink=auto", source, fresh)
    fresh.replace(target)
