"""Writes disks: a partition table, and what is in the partitions, into a plain file.

No mount, no loop device, no root. The same parts make the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgevirt.image.disks.grub import BOOT_SECTOR, CORE
from edgevirt.image.programs import ProgramError, Tools
from edgevirt.model.disk import (
    BOOT_CODE,
    DISK_GUID,
    MIB,
    SECTOR,
    TAIL_ALIGN,
    Content,
    Label,
    Partition,
    Place,
    layout,
)
from edgevirt.model.ids import GptGuid

_CHUNK: Final = MIB
_VOLUMES: Final = {Label.ESP: "ed6e0001", Label.CONFIG: "ed6e0004", Label.INVENTORY: "ed6e0005"}


@dataclass(frozen=True)
class Filling:
    """What a partition is to hold: an image, or files of a FAT (path → content).

    `tail`: follows the image, at the next multiple of `TAIL_ALIGN`.
    `size`: of the partition, in bytes; 0: as its row says.
    """

    image: Path | None = None
    tail: bytes = b""
    size: int = 0
    files: Mapping[str, bytes | Path] = field(default_factory=dict)


def size_of(places: Iterable[Place]) -> int:
    """Of the whole disk; the table's copy stands at its end."""
    return max(place.start + place.size for place in places) + MIB


def make_disk(
    fillings: Mapping[Label, Filling],
    tools: Tools,
    out: Path,
    boot: Path | None = None,
    guid: GptGuid = DISK_GUID,
) -> None:
    """`boot`: directory of GRUB's pieces for legacy BIOS; `guid`: of the disk.

    Raises ProgramError.
    """
    sizes = {label: filling.size for label, filling in fillings.items() if filling.size}
    places = layout(fillings, sizes)
    with out.open("wb") as file:
        file.truncate(size_of(places))
    _write_table(places, guid, tools, out)
    fill(places, fillings, tools, out, boot)
    if boot is not None and (boot / BOOT_SECTOR).exists():
        with out.open("r+b") as file:
            file.write((boot / BOOT_SECTOR).read_bytes()[:BOOT_CODE])


def fill(
    places: Iterable[Place],
    fillings: Mapping[Label, Filling],
    tools: Tools,
    out: Path,
    boot: Path | None,
) -> None:
    """What is in the partitions. Raises ProgramError."""
    for place in places:
        filling = fillings[place.row.label]
        if place.row.content is Content.FAT:
            _write_fat(place, filling, tools, out)
        elif place.row.content is Content.CORE:
            _write_core(place, boot, out)
        elif filling.image is not None:
            _copy_into(filling.image, out, place)
            _append(filling, out, place)


def _write_core(place: Place, boot: Path | None, out: Path) -> None:
    """GRUB's core and, in the last sector, the boot sector that starts it: an installer finds it
    there, whatever its own medium is started by.
    """
    if boot is None or not (boot / BOOT_SECTOR).exists():
        return
    with out.open("r+b") as file:
        file.seek(place.start)
        file.write((boot / CORE).read_bytes())
        file.seek(place.start + place.size - SECTOR)
        file.write((boot / BOOT_SECTOR).read_bytes())


def _write_table(places: Iterable[Place], guid: GptGuid, tools: Tools, out: Path) -> None:
    arguments = ["--set-alignment=1", f"--disk-guid={guid}"]
    for place in places:
        row, number = place.row, place.row.number
        last = (place.start + place.size) // SECTOR - 1
        arguments += [
            f"--new={number}:{place.start // SECTOR}:{last}",
            f"--typecode={number}:{row.type}",
            f"--change-name={number}:{row.label}",
            f"--partition-guid={number}:{row.guid(guid)}",
        ]
    tools.run("sgdisk", "--clear", *arguments, out)


def _write_fat(place: Place, filling: Filling, tools: Tools, out: Path) -> None:
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        image = Path(scratch) / "fat"
        make_fat(place.row, place.size, filling.files, tools, image)
        _copy_into(image, out, place)


def make_fat(
    row: Partition, size: int, files: Mapping[str, bytes | Path], tools: Tools, out: Path
) -> None:
    """A FAT file system of `size` bytes with these files."""
    kind = ("-F", "32") if size > 32 * MIB else ("-F", "16")
    name = str(row.label).upper().replace(" ", "")[:11]
    tools.run(
        *("mkfs.vfat", "--invariant", "-i", _VOLUMES[row.label], "-n", name),
        *(*kind, "-s", "1", "-C", out, str(size // 1024)),
    )
    add_files(out, 0, files, tools)


def add_files(disk: Path, start: int, files: Mapping[str, bytes | Path], tools: Tools) -> None:
    """Puts files into the FAT that begins at byte `start`, in place of those of the same name."""
    volume = f"{disk}@@{start}"
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    for folder in sorted(folders):
        _make_folder(volume, folder, tools)
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, content) in enumerate(sorted(files.items())):
            source = Path(scratch) / str(number)
            source.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
            os.utime(source, (tools.epoch, tools.epoch))
            tools.run("mcopy", "-i", volume, "-m", "-D", "o", source, f"::/{name}")


def _make_folder(volume: str, folder: str, tools: Tools) -> None:
    try:
        tools.run("mdir", "-i", volume, f"::/{folder}")
    except ProgramError:
        tools.run("mmd", "-i", volume, f"::/{folder}")


def _copy_into(source: Path, disk: Path, place: Place) -> None:
    """Leaves zeros out: the file stays sparse."""
    size = source.stat().st_size
    if size > place.size:
        raise ProgramError(
            f"cannot write {place.row.label}: it has {size} bytes, the partition {place.size}"
        )
    with source.open("rb") as read, disk.open("r+b") as write:
        at = place.start
        while chunk := read.read(_CHUNK):
            if chunk.strip(b"\0"):
                write.seek(at)
                write.write(chunk)
            at += len(chunk)


def _append(filling: Filling, disk: Path, place: Place) -> None:
    if filling.image is None or not filling.tail:
        return
    at = -(-filling.image.stat().st_size // TAIL_ALIGN) * TAIL_ALIGN
    if at + len(filling.tail) > place.size:
        raise ProgramError(f"cannot write {place.row.label}: there is no room behind its image")
    with disk.open("r+b") as write:
        write.seek(place.start + at)
        write.write(filling.tail)
