"""A partition is found by label and type, on disks of ours and in tables that are damaged."""

from __future__ import annotations

import struct
import uuid

import pytest

from edgevirt.image.table import TableError, find, read_entries
from edgevirt.model.disk import SECTOR, Label, partition


def head(*entries: tuple[str, str, int, int]) -> bytes:
    header = b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", 2, 128, 128)
    table = b""
    for label, kind, first, last in entries:
        row = uuid.UUID(kind).bytes_le + bytes(16) + struct.pack("<QQQ", first, last, 0)
        table += row + label.encode("utf-16-le").ljust(72, b"\0")
    return (bytes(SECTOR) + header.ljust(SECTOR, b"\0") + table).ljust(1 << 16, b"\0")


def test_a_partition_is_found_wherever_it_lies() -> None:
    kind = partition(Label.CONFIG).type
    found = find(read_entries(head(("CONFIG", kind, 4096, 4105))), Label.CONFIG)
    assert (found.start, found.size) == (4096 * SECTOR, 10 * SECTOR)


def test_a_label_on_another_type_is_not_ours() -> None:
    other = partition(Label.P3).type
    with pytest.raises(TableError, match="CONFIG"):
        find(read_entries(head(("CONFIG", other, 4096, 4105))), Label.CONFIG)


def test_what_is_no_partition_table_is_told() -> None:
    with pytest.raises(TableError, match="no GPT"):
        read_entries(bytes(1 << 16))


def test_a_table_that_leads_outside_is_refused() -> None:
    damaged = bytearray(head())
    struct.pack_into("<QII", damaged, SECTOR + 72, 2, 1 << 30, 128)
    with pytest.raises(TableError, match="damaged"):
        read_entries(bytes(damaged))
