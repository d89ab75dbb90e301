"""Writes the image of a CD: an ISO 9660 volume whose first sectors, which are nobody's, hold a GPT.

So the same image is a disk, too: of a stick with it all partitions are seen. On a CD firmware finds
the ESP and GRUB's core by El Torito, GRUB and our initial file system the rest by the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edgevirt.image.disks import iso9660
from edgevirt.image.disks.grub import BOOT_SECTOR, cd_program
from edgevirt.image.disks.iso9660 import BLOCK, HEAD, Start
from edgevirt.image.disks.raw import Filling, fill, size_of
from edgevirt.image.programs import ProgramError, Tools
from edgevirt.model.disk import FIRST_SECTOR, SECTOR, Content, Label, Place, layout, partition
from edgevirt.model.gpt import Entry, format_table
from edgevirt.model.ids import GptGuid

VOLUME: Final = "EDGEVIRT"
_PROGRAM: Final = "BOOT.IMG"
_BIOS_LOADS: Final = 4
"""Sectors of it: the rest it reads itself."""


def make_iso(
    fillings: Mapping[Label, Filling],
    tools: Tools,
    out: Path,
    boot: Path,
    guid: GptGuid,
    files: Mapping[str, bytes],
) -> None:
    """`boot`: what `make_grub` made; `files`: for people. Raises ProgramError."""
    places = place_all(fillings)
    size = size_of(places)
    with out.open("wb") as file:
        file.truncate(size)
    fill(places, fillings, tools, out, boot)
    head, code = _head(places, size, boot, files, tools.epoch)
    if HEAD * BLOCK + len(head) > FIRST_SECTOR * SECTOR:
        raise ProgramError(f"cannot write the CD: its head has {len(head)} bytes, too many")
    table = format_table(size, guid, (_entry(place, guid) for place in places), code)
    with out.open("r+b") as file:
        for at, content in (table.backup, table.table, table.protective, (HEAD * BLOCK, head)):
            file.seek(at)
            file.write(content)


def place_all(fillings: Mapping[Label, Filling]) -> tuple[Place, ...]:
    """As on a disk, but that GRUB's core comes last: where it would be is the volume's head."""
    sizes = {label: filling.size for label, filling in fillings.items() if filling.size}
    core = [label for label in fillings if partition(label).content is Content.CORE]
    places = list(layout((label for label in fillings if label not in core), sizes))
    for label in core:
        end = places[-1].start + places[-1].size
        places.append(Place(partition(label), end, partition(label).size))
    return tuple(places)


def _entry(place: Place, guid: GptGuid) -> Entry:
    row = place.row
    first, last = place.start // SECTOR, (place.start + place.size) // SECTOR - 1
    return Entry(row.number, row.type, row.guid(guid), first, last, row.label)


def _head(
    places: tuple[Place, ...], size: int, boot: Path, files: Mapping[str, bytes], epoch: int
) -> tuple[bytes, bytes]:
    """Of the volume, and what legacy BIOS starts when it stands on a stick."""
    esp = next(place for place in places if place.row.label is Label.ESP)
    by_efi = Start(iso9660.EFI, esp.start // BLOCK)  # its sectors are more than the entry can say
    if not (boot / BOOT_SECTOR).exists():
        return iso9660.format_head(VOLUME, size // BLOCK, files, (by_efi,), epoch), b""
    blank, _ = cd_program(boot, 0, BLOCK, HEAD)
    block = iso9660.places_of({**files, _PROGRAM: blank})[_PROGRAM]
    program, code = cd_program(boot, block, BLOCK, HEAD)
    starts = (Start(iso9660.BIOS, block, _BIOS_LOADS), by_efi)
    files = {**files, _PROGRAM: program}
    return iso9660.format_head(VOLUME, size // BLOCK, files, starts, epoch), code
