"""The rows of the partition table: each is known by label and type, and they fit together."""

from __future__ import annotations

import uuid

from edgevirt.model.disk import (
    DISK_GUID,
    FIRST_SECTOR,
    INSTALLER_GUID,
    PARTITIONS,
    SECTOR,
    SLOTS,
    Label,
    partition,
)


def test_every_label_has_one_row_and_one_number() -> None:
    assert sorted(row.label for row in PARTITIONS) == sorted(Label)
    assert len({row.number for row in PARTITIONS}) == len(PARTITIONS)
    guids = {row.guid(disk) for row in PARTITIONS for disk in (DISK_GUID, INSTALLER_GUID)}
    assert len(guids) == 2 * len(PARTITIONS)


def test_guids_are_spelled_as_the_kernel_spells_them() -> None:
    for row in PARTITIONS:
        assert str(uuid.UUID(row.type)) == row.type
        assert str(uuid.UUID(row.guid(DISK_GUID))) == row.guid(DISK_GUID)


def test_a_root_image_fits_into_either_slot() -> None:
    first, second = (partition(label) for label in SLOTS)
    assert (first.size, first.type) == (second.size, second.type)


def test_the_partition_for_legacy_bios_ends_before_the_first_aligned_one() -> None:
    assert partition(Label.BIOS).size == (FIRST_SECTOR - 34) * SECTOR


def test_an_evenly_placed_partition_keeps_the_next_one_aligned() -> None:
    for row in PARTITIONS:
        if row.label is not Label.BIOS:
            assert row.size % (1 << 20) == 0
