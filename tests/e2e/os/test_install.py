"""The installer keeps what a disk holds, goes on where it was cut off, and makes a disk that either
firmware boots, from a stick as from a CD. (`test_life.py` begins with one, too.)"""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgevirt.host.disk.table import read_table
from edgevirt.image.disks.grub import environment_block
from edgevirt.image.machine import Firmware, MachineSpec, machine
from edgevirt.model.disk import ENVIRONMENT, MIB, Label
from edgevirt.node.installer.planner import MARK
from tests.e2e.os.installing import (
    ARGUMENTS,
    await_words,
    config_of,
    copy_installer,
    get_file,
    make_disk,
    make_inventory,
    press_enter,
    put_file,
    record_of,
    tell_installer,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_a_disk_that_holds_something_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.raw", 2048 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    empty = make_disk(tmp_path / "empty.raw", 2048 * MIB)
    medium = copy_installer(tmp_path / "installer.raw")
    tell_installer(medium, ARGUMENTS)
    before = hashlib.sha256(disk.read_bytes()).hexdigest()
    spec = MachineSpec(
        state=tmp_path / "machine",
        disks=(disk, empty),
        sticks=(medium,),
        memory=768,
        serial="X/1 2",
    )
    with machine(spec) as running:
        await_words(running, "press Enter to switch off")
        printed = running.printed()
    why = "it holds an ext4 file system; say eve_nuke_disks=vda to erase it"
    assert f"cannot install on /dev/vda: {why}" in printed
    assert "recorded this machine on INVENTORY" in printed
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == before
    assert empty.stat().st_blocks == 0, "another disk was written than the one that was named"


@pytest.mark.slow
def test_an_installation_that_was_cut_off_boots_nothing_and_is_done_again(tmp_path: Path) -> None:
    """Onto two disks, one of which was given up."""
    disk, data = make_disk(tmp_path / "disk.raw", 1200 * MIB), tmp_path / "data.raw"
    make_disk(data, 1024 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(data)], check=True)
    medium = copy_installer(tmp_path / "installer.raw")
    told = "eve_install_disk=vda eve_persist_disk=vdb eve_nuke_disks=vdb eve_reboot_after_install"
    told += " eve_install_server=fleet.example:8443 eve_soft_serial=box-7"
    tell_installer(medium, f'set_global dom0_extra_args "{told}"\n')
    spec = MachineSpec(
        state=tmp_path / "machine", disks=(disk, data), sticks=(medium,), tpm=False, memory=768
    )
    with machine(spec) as running:
        await_words(running, "writing EFI System")
    assert disk.read_bytes().startswith(MARK)
    assert [entry.label for entry in read_table(data).entries] == [Label.P3]

    with machine(spec) as running:
        await_words(running, "edgevirt: restarting")
        assert "on /dev/vda, data on /dev/vdb" in running.printed()
        await_words(running, "/dev/vdb9 (P3): made")
        await_words(running, "controller   fleet.example:8443")
        await_words(running, "soft serial box-7")
    assert Label.P3 not in {entry.label for entry in read_table(disk).entries}

    with machine(replace(spec, sticks=(), firmware=Firmware.BIOS)) as running:
        await_words(running, "starting the node", times=2)


@pytest.mark.slow
def test_a_disk_with_long_sectors_is_installed_and_starts_and_grub_writes_to_it(
    tmp_path: Path,
) -> None:
    """A slot with nothing in it is marked as tried, and the other one boots."""
    disk = make_disk(tmp_path / "disk.raw", 2048 * MIB)
    medium = copy_installer(tmp_path / "installer.raw")
    tell_installer(medium, ARGUMENTS)
    spec = MachineSpec(
        state=tmp_path / "machine", disks=(disk,), sector=4096, tpm=False, memory=768
    )
    with machine(replace(spec, sticks=(medium,), sticks_first=True)) as running:
        await_words(running, "edgevirt: switching off")
        running.wait(60)
        assert "installed edgevirt-" in running.printed()
    assert {entry.sector for entry in read_table(disk).entries} == {4096}
    assert config_of(medium) - config_of(disk) == {"installer.cfg"}
    put_file(disk, Label.ESP, ENVIRONMENT, environment_block("active", "updating"))
    with machine(spec) as running:
        await_words(running, "starting the node")
        assert "(P3): made" in running.printed()
        assert "in slot IMGA" in running.printed()
        await_words(running, "soft serial")
    assert b"IMGB=inprogress" in get_file(disk, Label.ESP, ENVIRONMENT)


@pytest.mark.slow
@pytest.mark.parametrize("firmware", Firmware)
def test_a_cd_installs_and_says_where_the_machine_is_recorded(
    tmp_path: Path, firmware: Firmware
) -> None:
    """Under UEFI there is a stick for that."""
    disk = make_disk(tmp_path / "disk.raw", 2048 * MIB)
    medium = copy_installer(tmp_path / "installer.iso", "installer-iso")
    tell_installer(medium, 'set_global dom0_extra_args "eve_soft_serial=box-8"\n')
    before = hashlib.sha256(medium.read_bytes()).hexdigest()
    spec = MachineSpec(
        state=tmp_path / "machine", disks=(disk,), tpm=False, memory=768, firmware=firmware
    )
    sticks = (make_inventory(tmp_path / "stick.raw"),) if firmware is Firmware.UEFI else ()
    with machine(replace(spec, cds=(medium,), sticks=sticks)) as running:
        await_words(running, "edgevirt: switching off")
        running.wait(60)
        printed = running.printed()
    assert "on /dev/vda" in printed
    if sticks:
        assert "recorded this machine on INVENTORY of /dev/sda, in box-8" in printed
        assert record_of(sticks[0], "box-8")["softSerial"] == "box-8"
    else:
        assert "cannot record this machine on INVENTORY: the medium is read-only" in printed
        assert "soft serial box-8" in printed
    assert config_of(medium) - config_of(disk) == {"installer.cfg"}
    assert hashlib.sha256(medium.read_bytes()).hexdigest() == before
    with machine(spec) as running:
        await_words(running, "starting the node")


@pytest.mark.slow
def test_told_to_pause_it_waits_for_somebody_before_it_writes_and_after(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.raw", 2048 * MIB)
    medium = copy_installer(tmp_path / "installer.raw")
    told = "eve_install_disk=vda eve_pause_before_install eve_pause_after_install"
    tell_installer(medium, f'set_global dom0_extra_args "{told}"\n')
    spec = MachineSpec(
        state=tmp_path / "machine", disks=(disk,), sticks=(medium,), tpm=False, memory=768
    )
    with machine(spec) as running:
        await_words(running, "press Enter to install on /dev/vda")
        assert disk.stat().st_blocks == 0, "it did not wait"
        press_enter(running)
        await_words(running, "press Enter to go on")
        assert "edgevirt: installed" in running.printed()
        assert "switching off" not in running.printed(), "one press was taken for two"
        press_enter(running)
        await_words(running, "edgevirt: switching off")
        running.wait(60)
