"""The disk of a node: which partitions there are, how they are found, how large they are.

A partition is found by its label and its type, never by its number or its place: a disk may hold
other things beside. Labels, types and numbers are EVE's, so that a disk that EVE wrote is known.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from edgevirt.model.ids import GptGuid

MIB: Final = 1 << 20
SECTOR: Final = 512
"""Bytes; of the disks that images are made for."""
SECTORS: Final = (SECTOR, 4096)
"""Bytes; of the disks that a node is installed on."""
FIRST_SECTOR: Final = 2048
"""Where the first aligned partition begins."""
CORE_SECTOR: Final = 34
"""Where GRUB's core lies for legacy BIOS: the first sector of its partition."""
BOOT_CODE: Final = 440
"""Bytes of the first sector that legacy BIOS starts; the table of old stands behind."""


class Label(enum.StrEnum):
    """Names of partitions, as they stand in the partition table."""

    BIOS = "BIOS boot"
    ESP = "EFI System"
    IMGA = "IMGA"
    IMGB = "IMGB"
    CONFIG = "CONFIG"
    INVENTORY = "INVENTORY"
    INSTALLER = "INSTALLER"
    P3 = "P3"


SLOTS: Final = (Label.IMGA, Label.IMGB)
"""The two places of a root image."""


class Content(enum.StrEnum):
    """What a partition holds."""

    CORE = "core"
    """GRUB's own sectors, for legacy BIOS."""
    FAT = "vfat"
    SQUASHFS = "squashfs"
    EXT4 = "ext4"
    """With the feature `encrypt`."""


class Partition(msgspec.Struct, frozen=True):
    """One row of the partition table.

    type     GUID of its type: with the label, what it is known by.
    number   in the table of a disk that we make; another is as good.
    size     in bytes; 0: the largest gap that is left. An existing one may be larger.
    """

    label: Label
    type: GptGuid
    number: int
    size: int
    content: Content

    def guid(self, disk: GptGuid) -> GptGuid:
        """Of this very partition, on an image of a disk with that GUID."""
        return GptGuid(f"{disk[:-2]}{0x50 + self.number:02x}")


_ROOT: Final = GptGuid("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6")
_DATA: Final = GptGuid("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
"""Which other systems show to people, too."""
_BIOS: Final = GptGuid("21686148-6449-6e6f-744e-656564454649")
_ESP: Final = GptGuid("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_CONFIG: Final = GptGuid("13307e62-cd9c-4920-8f9b-91b45828b798")
_P3: Final = GptGuid("5f24425a-2dfa-11e8-a270-7b663faccc2c")

PARTITIONS: Final = (
    Partition(Label.BIOS, _BIOS, 14, (FIRST_SECTOR - CORE_SECTOR) * SECTOR, Content.CORE),
    Partition(Label.ESP, _ESP, 1, 36 * MIB, Content.FAT),
    Partition(Label.IMGA, _ROOT, 2, 512 * MIB, Content.SQUASHFS),
    Partition(Label.IMGB, _ROOT, 3, 512 * MIB, Content.SQUASHFS),
    Partition(Label.CONFIG, _CONFIG, 4, 5 * MIB, Content.FAT),
    Partition(Label.INVENTORY, _DATA, 5, 40 * MIB, Content.FAT),
    Partition(Label.INSTALLER, _ROOT, 6, 512 * MIB, Content.SQUASHFS),
    Partition(Label.P3, _P3, 9, 0, Content.EXT4),
)
"""All kinds of partition; a disk holds some of them."""

DISK_GUID: Final = GptGuid("ad6871ee-31f9-4cf3-9e09-6f7a25c30000")
INSTALLER_GUID: Final = GptGuid("ad6871ee-31f9-4cf3-9e09-6f7a25c30100")
"""Of images: of the live disk, of the installer. An installed disk has one of its own."""
P3_LEAST: Final = 256 * MIB
"""Below, a disk is too small for a node."""

ENVIRONMENT: Final = "EFI/BOOT/grubenv"
"""On the ESP: GRUB's environment block, with the state of each slot."""
TAIL_ALIGN: Final = 4096
"""Bytes: an installer's image is followed, at the next multiple, by what it says of itself."""
TAIL_SIZE: Final = 4096
SLOT_ARGUMENT: Final = "edgevirt.slot"
"""Kernel argument: the label of the slot that was booted."""


def partition(label: Label) -> Partition:
    """Its row."""
    return next(row for row in PARTITIONS if row.label is label)


class Place(msgspec.Struct, frozen=True):
    """A partition on a certain disk; in bytes."""

    row: Partition
    start: int
    size: int


def layout(labels: Iterable[Label], sizes: Mapping[Label, int] | None = None) -> tuple[Place, ...]:
    """Where the partitions go, one after the other. `sizes`: of those that differ; whole MiB."""
    found = []
    next_free = FIRST_SECTOR * SECTOR
    for label in labels:
        row = partition(label)
        if row.content is Content.CORE:
            found.append(Place(row, CORE_SECTOR * SECTOR, row.size))
            continue
        size = (sizes or {}).get(label, row.size)
        found.append(Place(row, next_free, size))
        next_free += size
    return tuple(found)
