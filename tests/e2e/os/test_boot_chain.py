"""The boot chain on real firmware: which slot boots, and what the TPM then holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevirt.image.disks.grub import environment_block
from edgevirt.image.machine import Firmware
from edgevirt.model.disk import Label
from tests.e2e.os.probe_disk import (
    Probe,
    boot,
    make_cd,
    make_probe,
    registers,
    root_of,
    slot_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return make_probe(tmp_path_factory.mktemp("probe"))


def test_the_registers_hold_what_the_builder_computed(probe: Probe, tmp_path: Path) -> None:
    printed = boot(tmp_path, probe.copy(tmp_path / "disk.raw"), Firmware.UEFI, tpm=True)
    found = registers(printed)
    assert {name: found[name] for name in probe.expected} == {
        name: values[0] for name, values in probe.expected.items()
    }


def test_a_trial_is_booted_once_and_then_the_active_slot_again(
    probe: Probe, tmp_path: Path
) -> None:
    disk = probe.copy(tmp_path / "disk.raw")
    probe.set_states(disk, environment_block("active", "updating"))
    assert slot_of(boot(tmp_path, disk, Firmware.BIOS)) == "IMGB"
    assert "IMGB=inprogress" in probe.states(disk)
    assert slot_of(boot(tmp_path, disk, Firmware.BIOS)) == "IMGA"


def test_a_trial_that_cannot_be_read_falls_back_in_the_same_start(
    probe: Probe, tmp_path: Path
) -> None:
    disk = probe.copy(tmp_path / "disk.raw")
    probe.set_states(disk, environment_block("active", "updating"))
    with disk.open("r+b") as file:
        file.seek(probe.place(disk, Label.IMGB).start)
        file.write(bytes(1 << 20))
    assert slot_of(boot(tmp_path, disk, Firmware.BIOS)) == "IMGA"
    assert "IMGB=inprogress" in probe.states(disk)


def test_a_damaged_environment_boots_what_can_be_read(probe: Probe, tmp_path: Path) -> None:
    disk = probe.copy(tmp_path / "disk.raw")
    probe.set_states(disk, b"\xff" * 1024)
    assert slot_of(boot(tmp_path, disk, Firmware.BIOS)) == "IMGA"


def test_config_changes_the_kernel_s_arguments(probe: Probe, tmp_path: Path) -> None:
    disk = probe.copy(tmp_path / "disk.raw")
    settings = b'set_global hv_eve_mem_settings "900M"\nset_global dom0_extra_args "extra=1 two"\n'
    probe.put(disk, Label.CONFIG, {"grub.cfg": settings})
    printed = boot(tmp_path, disk, Firmware.BIOS)
    assert "hv_eve_mem_settings=900M" in printed
    assert "extra=1 two" in printed


@pytest.mark.parametrize(
    "firmware", [Firmware.UEFI, pytest.param(Firmware.BIOS, marks=pytest.mark.slow)]
)
def test_another_disk_with_our_labels_is_not_taken_for_the_one_that_was_booted(
    probe: Probe, tmp_path: Path, firmware: Firmware
) -> None:
    disk, other = probe.copy(tmp_path / "disk.raw"), probe.copy(tmp_path / "other.raw")
    probe.build.tools().run("sgdisk", "--randomize-guids", other)
    assert root_of(boot(tmp_path, disk, firmware, arguments=_as_first(other))) == "/dev/vda2"


@pytest.mark.slow
@pytest.mark.parametrize("firmware", Firmware)
def test_a_cd_is_booted_and_its_settings_count(
    probe: Probe, tmp_path: Path, firmware: Firmware
) -> None:
    """Beside a stick with the same labels, which firmware did not start from."""
    disk = tmp_path / "empty.raw"
    disk.write_bytes(bytes(1 << 20))
    cd, other = make_cd(probe, tmp_path / "cd.iso"), make_cd(probe, tmp_path / "other.raw")
    probe.build.tools().run("sgdisk", "--randomize-guids", other)
    probe.put(cd, Label.CONFIG, {"installer.cfg": b'set_global dom0_extra_args "extra=1"\n'})
    printed = boot(tmp_path, disk, firmware, cds=(cd,), arguments=_as_first(other))
    assert slot_of(printed) == "INSTALLER"
    assert "extra=1" in printed
    assert root_of(printed).startswith("/dev/loop")


@pytest.mark.slow
@pytest.mark.parametrize("firmware", Firmware)
def test_a_stick_with_a_cd_s_image_boots(probe: Probe, tmp_path: Path, firmware: Firmware) -> None:
    printed = boot(tmp_path, make_cd(probe, tmp_path / "stick.raw"), firmware)
    assert slot_of(printed) == "INSTALLER"
    assert root_of(printed) == "/dev/vda6"


def _as_first(disk: Path) -> tuple[str, ...]:
    """For QEMU: on a bus whose disks the kernel lists before others."""
    drive = f"if=none,id=first,format=raw,file={disk}"
    return ("-drive", drive, "-device", "ide-hd,drive=first,bus=ide.2")
