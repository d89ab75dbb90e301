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
from tests.e2e.os.os_system import BOOT, DISK, IMAGES, OsSystem, artifact, os_system
from tests.e2e.system import SERIAL, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

INSTALL = 300.0
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


def record_of(medium: Path, folder: str) -> Any:
    start = read_table(medium).get(Label.INVENTORY).start
    command = ["mtype", "-i", f"{medium}@@{start}", f"::/{folder}/record.json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[OsSystem]:
    medium = tmp_path / "machine/installer.raw"
    options = {"sticks": (medium,), "sticks_first": True, "firmware": Firmware.BIOS}
    with os_system(tmp_path, **options) as made:
        copy_installer(medium)
        make_disk(made.disk, DISK)
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
    small = make_disk(tmp_path / "small.raw", 64 * MIB)
    medium = copy_installer(tmp_path / "installer.raw")
    before = hashlib.sha256(disk.read_bytes()).hexdigest()
    spec = MachineSpec(
        state=tmp_path / "machine",
        disks=(disk, small),
        sticks=(medium,),
        memory=768,
        serial="X/1 2",
    )
    with machine(spec) as running:
        eventually(
            "it refuses",
            lambda: "press Enter to switch off" in running.printed(),
            INSTALL,
            every=0.2,
        )
        printed = running.printed()
    assert "/dev/vda: it holds an ext4 file system; say eve_nuke_disks=vda to erase it" in printed
    assert "/dev/vdb: it has 64 MiB; a node needs" in printed
    assert "recorded this machine on INVENTORY" in printed
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == before
