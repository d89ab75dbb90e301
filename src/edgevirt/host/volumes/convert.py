"""Disk images of others made into disks of our own, by a `qemu-img` that can reach nothing else."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.files import DiskError
from edgevirt.host.rights.cell import Cell
from edgevirt.host.rights.tool import ToolFailed, run_tool
from edgevirt.host.volumes.image import MOST_VIRTUAL, READABLE, BadDiskImage
from edgevirt.model.content import ContentFormat

_MEMORY: Final = 2 << 30
_SECTOR: Final = 512
_INFO_SECONDS: Final = 30.0
_SECONDS: Final = 6 * 3600.0


class _Info(msgspec.Struct, rename="kebab"):
    """Of `qemu-img info`, what matters here."""

    virtual_size: int
    format: str
    backing_filename: str = ""
    full_backing_filename: str = ""


async def virtual_size(source: Path, format: ContentFormat) -> int:
    """Bytes, as QEMU itself understands the image. Raises BadDiskImage, DiskError."""
    said = await _run(source, None, "info", "-f", READABLE[format], "--output=json", str(source))
    try:
        info = msgspec.json.decode(said, type=_Info)
    except msgspec.MsgspecError as failure:
        raise BadDiskImage("what qemu-img says of it cannot be read") from failure
    if info.backing_filename or info.full_backing_filename:
        raise BadDiskImage("it names a backing file")
    if info.virtual_size > MOST_VIRTUAL:
        raise BadDiskImage(f"a disk of {info.virtual_size} bytes; {MOST_VIRTUAL} are the bound")
    return info.virtual_size


async def convert(source: Path, format: ContentFormat, target: Path, size: int) -> None:
    """Makes `target`, a qcow2 of `size` bytes or as many as the source's if those are more.

    Raises BadDiskImage (it cannot be read), DiskError (the node's fault).
    """
    await asyncio.to_thread(target.touch, mode=0o600)
    kind = READABLE[format]
    await _run(source, target, "convert", "-f", kind, "-O", "qcow2", str(source), str(target))
    if size > await virtual_size(target, ContentFormat.QCOW2):
        await resize(target, size)


async def resize(disk: Path, size: int) -> None:
    """Makes a qcow2 that nobody uses have room for `size` bytes, in whole sectors: more than it
    has. Raises BadDiskImage, DiskError.
    """
    wanted = str(whole_sectors(size))
    await _run(disk, disk, "resize", "-q", "-f", "qcow2", str(disk), wanted)


def whole_sectors(size: int) -> int:
    return -(-size // _SECTOR) * _SECTOR


async def _run(source: Path, target: Path | None, verb: str, *arguments: str) -> bytes:
    program = shutil.which("qemu-img")
    if program is None:
        raise DiskError("cannot read a disk image: qemu-img is not installed")
    cell = Cell(
        command=(program, verb, *arguments),
        reads=(str(source),),
        writes=() if target is None else (str(target),),
        memory=_MEMORY,
    )
    try:
        return await run_tool(cell, _INFO_SECONDS if verb == "info" else _SECONDS)
    except TimeoutError as failure:
        raise BadDiskImage(f"qemu-img {verb} takes too long") from failure
    except ToolFailed as failure:
        if failure.full:
            raise DiskError("the disk is full") from failure
        raise BadDiskImage(f"qemu-img cannot {verb} it: {failure}") from failure
