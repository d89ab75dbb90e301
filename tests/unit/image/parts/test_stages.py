"""GRUB's two stages agree with the rest of the product on names."""

from __future__ import annotations

import re

from edgevirt.host.boot.limits import limits_of
from edgevirt.image.parts.root import stage2
from edgevirt.image.recipe import FILES, Arch, Settings, Variant
from edgevirt.model.baseos import SlotState
from edgevirt.model.disk import ENVIRONMENT, SLOT_ARGUMENT, Label, partition


def test_stage_1_knows_the_partitions_by_their_numbers() -> None:
    text = (FILES / "stage1.cfg").read_text()
    for label in (Label.IMGA, Label.IMGB, Label.CONFIG, Label.INSTALLER):
        assert f"($disk,gpt{partition(label).number})" in text
    assert f"/{ENVIRONMENT}" in text
    assert text.count(f',gpt{partition(Label.ESP).number}"') == 2, "the ESP of a CD"
    assert f"hand_over {Label.INSTALLER} " in text


def test_stage_1_knows_the_states_of_slots() -> None:
    text = (FILES / "stage1.cfg").read_text()
    for state in (SlotState.ACTIVE, SlotState.UPDATING, SlotState.INPROGRESS):
        assert str(state) in text


def test_stage_2_names_the_slot_as_the_node_reads_it() -> None:
    assert f"{SLOT_ARGUMENT}=$slot" in (FILES / "stage2.cfg").read_text()


def test_a_kernel_that_is_stuck_panics_and_a_panic_restarts_the_machine() -> None:
    words = (FILES / "stage2.cfg").read_text().split()
    assert {"panic=1", "softlockup_panic=1", "nmi_watchdog=panic"} <= set(words)


def test_nothing_is_measured_before_the_slot_is_chosen() -> None:
    lines = (FILES / "stage1.cfg").read_text().splitlines()
    loads = [number for number, line in enumerate(lines) if "insmod tpm" in line]
    assert len(loads) == 1
    assert "source /EFI/BOOT/grub.cfg" in lines[loads[0] + 1]


def xen_stage2() -> str:
    return stage2(Settings(Variant.XEN, Arch.AMD64, "0", 1))


def test_under_xen_the_kernel_gets_what_it_gets_without() -> None:
    plain = stage2(Settings(Variant.KVM, Arch.AMD64, "0", 1))
    alone = next(line for line in plain.splitlines() if line.startswith("linux "))
    module = next(line for line in xen_stage2().splitlines() if "/boot/vmlinuz" in line)
    assert module.removeprefix("module2 ") == alone.removeprefix("linux ")


def test_what_config_says_of_the_first_domain_reaches_xen() -> None:
    lines = xen_stage2().splitlines()
    started = next(line for line in lines if line.startswith("multiboot2 "))
    assert "$hv_dom0_mem_settings $hv_dom0_cpu_settings" in started
    assert lines.index("fi") < lines.index(started)


def test_the_first_domain_s_share_is_the_bound_of_the_node_s_groups_too() -> None:
    found = re.search(r'set hv_dom0_mem_settings="(.*)"', xen_stage2())
    assert found
    limits = limits_of({"hv_dom0_mem_settings": found[1]})
    assert limits[""].memory == 800 << 20
