"""GRUB's two stages agree with the rest of the product on names."""

from __future__ import annotations

from edgevirt.image.grub import FILES
from edgevirt.model.baseos import SlotState
from edgevirt.model.disk import ENVIRONMENT, SLOT_ARGUMENT, Label, partition


def test_stage_1_knows_the_partitions_by_their_numbers() -> None:
    text = (FILES / "stage1.cfg").read_text()
    for label in (Label.IMGA, Label.IMGB, Label.CONFIG, Label.INSTALLER):
        assert f"($disk,gpt{partition(label).number})" in text
    assert f"/{ENVIRONMENT}" in text
    assert f"hand_over {Label.INSTALLER} " in text


def test_stage_1_knows_the_states_of_slots() -> None:
    text = (FILES / "stage1.cfg").read_text()
    for state in (SlotState.ACTIVE, SlotState.UPDATING, SlotState.INPROGRESS):
        assert str(state) in text


def test_stage_2_names_the_slot_as_the_node_reads_it() -> None:
    assert f"{SLOT_ARGUMENT}=$slot" in (FILES / "stage2.cfg").read_text()


def test_nothing_is_measured_before_the_slot_is_chosen() -> None:
    lines = (FILES / "stage1.cfg").read_text().splitlines()
    loads = [number for number, line in enumerate(lines) if "insmod tpm" in line]
    assert len(loads) == 1
    assert "source /EFI/BOOT/grub.cfg" in lines[loads[0] + 1]
