"""Disks: where partitions go, and the states that GRUB finds."""

from __future__ import annotations

import itertools

from edgevirt.image.disks.grub import environment_block
from edgevirt.image.disks.raw import size_of
from edgevirt.model.disk import MIB, PARTITIONS, Label, layout


def test_partitions_do_not_overlap() -> None:
    places = layout([row.label for row in PARTITIONS if row.size])
    taken = sorted((place.start, place.start + place.size) for place in places)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(taken))
    assert size_of(places) > taken[-1][1]


def test_partitions_start_on_whole_mebibytes() -> None:
    for place in layout([Label.ESP, Label.IMGA, Label.CONFIG]):
        assert place.start % MIB == 0


def test_the_states_of_slots_are_in_the_first_sector_of_a_block_of_grub_s_size() -> None:
    block = environment_block("active", "unused")
    assert len(block) == 1024
    assert block[:512].startswith(b"# GRUB Environment Block\nIMGA=active\nIMGB=unused\n#")
    assert set(block[512:]) == {ord("#")}
