"""Layers of an image as one read-only disk, for a container in a virtual machine: a squashfs that
has a directory for each layer, by the layer's own name. The guest puts them on top of each other.

`packed/<hash of the layers' names>.squashfs`: made once for all volumes that lie on those layers.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from edgevirt.host.files import DiskError, sync_directory
from edgevirt.host.rights.cell import Cell
from edgevirt.host.rights.tool import ToolFailed, run_tool

_SUFFIX: Final = ".squashfs"
_MEMORY: Final = 1 << 30
_OPTIONS: Final = (
    # what unpacks fast, also in an emulated processor
    *("-comp", "lz4", "-noappend", "-no-progress", "-no-exports", "-quiet"),
    *("-processors", "1", "-mem", "64M"),
)
_SECONDS: Final = 3600.0


class PackedLayers:
    """`directory`: where the disks are. One at a time is made."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._alone = asyncio.Lock()

    def begin(self) -> None:
        """Clears what a crash left half made. Blocks."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._directory.glob(".*"):
            path.unlink()

    def path(self, layers: Sequence[str]) -> Path:
        """`layers`: directories, lowest first. Where their disk is, or would be."""
        names = "\n".join(Path(layer).name for layer in layers)
        return self._directory / f"{hashlib.sha256(names.encode()).hexdigest()}{_SUFFIX}"

    def size(self) -> int:
        """Bytes that all of them take."""
        return sum(path.stat().st_size for path in self._whole())

    async def make(self, layers: Sequence[str]) -> Path:
        """Returns at once when it is there. Raises DiskError."""
        path = self.path(layers)
        async with self._alone:
            if not path.exists():
                await self._make(path, layers)
        return path

    async def _make(self, path: Path, layers: Sequence[str]) -> None:
        program = shutil.which(
            "mksquashfs", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin"
        )
        if program is None:
            raise DiskError("cannot pack an image's layers: mksquashfs is not installed")
        part = path.with_name(f".{path.name}")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        sources = tuple(dict.fromkeys(layers))
        options = (*_OPTIONS, *_one_alone(sources))
        cell = Cell(
            command=(program, *sources, str(part), *options),
            reads=sources,
            writes=(str(part),),
            reads_all=True,
            memory=_MEMORY,
        )
        try:
            await _run(cell)
            await asyncio.to_thread(_sync, part)
            part.rename(path)
            sync_directory(path.parent)
        finally:
            part.unlink(missing_ok=True)

    def keep(self, wanted: Iterable[Sequence[str]]) -> None:
        """Removes all but those of `wanted`. Blocks."""
        kept = {self.path(layers) for layers in wanted}
        for path in self._whole():
            if path not in kept:
                path.unlink(missing_ok=True)

    def _whole(self) -> list[Path]:
        return list(self._directory.glob(f"[!.]*{_SUFFIX}"))


def _one_alone(sources: Sequence[str]) -> tuple[str, ...]:
    """A single source's content would be the disk's root itself."""
    return ("-keep-as-directory",) if len(sources) == 1 else ()


async def _run(cell: Cell) -> None:
    try:
        await run_tool(cell, _SECONDS)
    except TimeoutError as failure:
        raise DiskError("cannot pack an image's layers: it takes too long") from failure
    except ToolFailed as failure:
        why = "the disk is full" if failure.full else failure
        raise DiskError(f"cannot pack an image's layers: {why}") from failure


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
