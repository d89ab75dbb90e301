"""A machine with an empty disk gets a node from the installer's medium; one with data keeps it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevirt.host.table import read_table
from edgevirt.image.machine import Firmware, Machine, MachineSpec, machine
from edgevirt.model.disk import DISK_GUID, INSTALLER_GUID, MIB, Label, partition
from edgevirt.node.installer.planner import MARK
from tests.e2e.os.os_system import BOOT, DISK, IMAGES, OsSystem, artifact, os_system
from tests.e2e.system import SERIAL, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ARGUMENTS = 'set_global dom0_extra_args "eve_install_disk=vda"\n'
INSTALL = 480.0
"""Seconds on a machine that is busy; a quiet one needs sixty."""


def copy_installer(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(IMAGES / artifact("installer")["name"], path)
    return path


def make_disk(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def volume(disk: Path, label: Label) -> str:
    """As mtools names a partition's file system."""
    return f"{disk}@@{read_table(disk).get(label).start}"


def tell_installer(medium: Path, text: str) -> None:
    command = ["mcopy", "-i", volume(medium, Label.CONFIG), "-", "::installer.cfg"]
    subprocess.run(command, check=True, input=text.encode())


def await_words(running: Machine, text: str) -> None:
    eventually(f"it says {text}", lambda: text in running.printed(), INSTALL, every=0.05)


def record_of(medium: Path, folder: str) -> Any:
    command = ["mtype", "-i", volume(medium, Label.INVENTORY), f"::/{folder}/record.json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def config_of(disk: Path) -> set[str]:
    command = ["mdir", "-b", "-i", volume(disk, Label.CONFIG)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.removeprefix("::/").strip() for line in shown.splitlines()}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[OsSystem]:
    medium = tmp_path / "machine/installer.raw"
    options = {"sticks": (medium,), "sticks_first": True, "firmware": Firmware.BIOS}
    with os_system(tmp_path, **options) as made:
        copy_installer(medium)
        make_disk(made.disk, DISK)
        (tmp_path / "config/installer.cfg").write_text(ARGUMENTS)
        made.configure_disk(medium)
        made.push("probe:1.0")
        made.add_image("probe", "probe:1.0")
        yield made


def restart(system: OsSystem, firmware: Firmware) -> None:
    """Without the installer's medium."""
    system.machine.cut_power()
    spec = replace(system.machine.spec, sticks=(), firmware=firmware)
    system.machine = Machine(spec)
    system.power_on()


def test_an_empty_disk_becomes_a_node_that_either_firmware_boots(system: OsSystem) -> None:
    medium = system.machine.spec.sticks[0]
    system.power_on()
    system.console_says("edgevirt: switching off", INSTALL)
    system.machine.wait(BOOT)
    assert "installed edgevirt-" in system.machine.printed()
    entries = read_table(system.disk).entries
    labels = ["EFI System", "IMGA", "IMGB", "CONFIG", "P3", "BIOS boot"]
    assert [e.label for e in entries] == labels
    images = {
        row.guid(disk) for row in map(partition, Label) for disk in (DISK_GUID, INSTALLER_GUID)
    }
    assert not images & {entry.guid for entry in entries}, "its GUIDs are not its own"
    assert config_of(medium) - config_of(system.disk) == {"installer.cfg"}
    record = record_of(medium, SERIAL)
    assert (record["serial"], record["softSerial"], record["firmware"]) == (SERIAL, SERIAL, "BIOS")
    assert record["outcome"].endswith("on /dev/vda")
    assert {disk["name"] for disk in record["disks"]} == {"vda", "sda"}
    assert record["nics"][0]["mac"] == "52:54:00:12:34:56"

    restart(system, Firmware.UEFI)
    port = system.add_app("probe", port=system.ports[0])
    system.online()
    system.eventually("the app answers", lambda: system.starts(port) > 0, BOOT)
    assert {state for state, _ in system.slots().values()} == {"active", "unused"}

    restart(system, Firmware.BIOS)
    system.online()


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
    told = "eve_install_disk=vda eve_persist_disk=vdb eve_nuke_disks=vdb"
    tell_installer(medium, f'set_global dom0_extra_args "{told}"\n')
    spec = MachineSpec(
        state=tmp_path / "machine", disks=(disk, data), sticks=(medium,), tpm=False, memory=768
    )
    with machine(spec) as running:
        await_words(running, "writing EFI System")
    assert disk.read_bytes().startswith(MARK)
    assert [entry.label for entry in read_table(data).entries] == [Label.P3]

    with machine(spec) as running:
        await_words(running, "edgevirt: switching off")
        running.wait(BOOT)
        assert "on /dev/vda, data on /dev/vdb" in running.printed()
    assert Label.P3 not in {entry.label for entry in read_table(disk).entries}

    with machine(replace(spec, sticks=())) as running:
        await_words(running, "/dev/vdb9 (P3): made")
        await_words(running, "starting the node")
