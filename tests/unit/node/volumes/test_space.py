"""How much disk further volumes may be promised."""

from __future__ import annotations

from typing import Any

import pytest

from edgevirt.host.files import Room
from edgevirt.model.base import SwState
from edgevirt.model.content import BlobStatus
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_STATUS, PROPERTY
from edgevirt.model.node import Property
from edgevirt.node.volumes.space import Promise, remaining, reserved
from edgevirt.runtime import Inputs
from edgevirt.runtime.access import View

GIB = 1024**3
MIB = 1024**2


def inputs(blobs: int = 0, **properties: str) -> Inputs:
    tables: dict[str, dict[str, Any]] = {
        BLOB_STATUS.name: {
            str(n): BlobStatus(digest=Digest(str(n)), state=SwState.LOADED, size=MIB, unpacked=MIB)
            for n in range(blobs)
        },
        PROPERTY.name: {
            name.replace("_", "."): Property(value=value) for name, value in properties.items()
        },
    }
    return View(tables, now=0, monotonic=0)


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (10 * GIB, 1 * GIB + 2 * GIB),  # logs: a tenth; the node: a fifth is 2 GiB
        (5 * GIB, GIB // 2 + GIB),
        (1000 * GIB, 2048 * MIB + 2 * GIB),
    ],
)
def test_the_node_keeps_a_part_for_itself_and_its_logs(total: int, expected: int) -> None:
    assert reserved(total, inputs()) == expected


def test_the_node_s_part_is_a_property() -> None:
    told = inputs(
        newlog_gzipfiles_ondisk_maxmegabytes="10",
        storage_dom0_disk_minusage_percent="50",
        storage_dom0_disk_maxusagebytes=str(GIB),
    )
    assert reserved(10 * GIB, told) == 10 * MIB + GIB


def test_blobs_layers_and_promises_count_in_full() -> None:
    left = remaining(Room(10 * GIB, 10 * GIB), [Promise(2 * GIB, taken=GIB)], inputs(blobs=3))
    assert left == 10 * GIB - 3 * GIB - 6 * MIB - 2 * GIB


def test_on_a_disk_shared_with_others_only_what_is_free_counts() -> None:
    disk = Room(1000 * GIB, 5 * GIB)
    assert remaining(disk, [], inputs()) == 5 * GIB
    assert remaining(disk, [Promise(3 * GIB, taken=GIB)], inputs()) == 3 * GIB


def test_what_remains_is_never_less_than_nothing() -> None:
    assert remaining(Room(GIB, 10), [Promise(9 * GIB)], inputs()) == 0
