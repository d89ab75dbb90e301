"""The installer's medium, in a test's hand."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from edgevirt.host.disk.table import read_table
from edgevirt.image.machine import Machine
from edgevirt.model.disk import MIB, Label, partition
from tests.e2e.os.os_system import IMAGES, artifact
from tests.e2e.system import eventually

ARGUMENTS = 'set_global dom0_extra_args "eve_install_disk=vda"\n'
INSTALL = 480.0
"""Seconds on a machine that is busy; a quiet one needs sixty."""


def copy_installer(path: Path, kind: str = "installer") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(IMAGES / artifact(kind)["name"], path)
    return path


def make_inventory(path: Path) -> Path:
    """A stick on which a machine can be recorded, as people make one."""
    row = partition(Label.INVENTORY)
    make_disk(path, 32 * MIB)
    table = ["-n1:2048:0", f"-t1:{row.type}", f"-c1:{row.label}"]
    subprocess.run(["sgdisk", "-o", *table, str(path)], check=True, capture_output=True)
    blocks = str(read_table(path).get(Label.INVENTORY).size // 1024)
    command = ["mkfs.vfat", "--offset=2048", str(path), blocks]
    subprocess.run(command, check=True, capture_output=True)
    return path


def make_disk(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def volume(disk: Path, label: Label) -> str:
    """As mtools names a partition's file system."""
    return f"{disk}@@{read_table(disk).get(label).start}"


def put_file(disk: Path, label: Label, name: str, content: bytes) -> None:
    command = ["mcopy", "-D", "o", "-i", volume(disk, label), "-", f"::{name}"]
    subprocess.run(command, check=True, input=content)


def get_file(disk: Path, label: Label, name: str) -> bytes:
    command = ["mtype", "-i", volume(disk, label), f"::{name}"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def tell_installer(medium: Path, text: str) -> None:
    put_file(medium, Label.CONFIG, "installer.cfg", text.encode())


def await_words(running: Machine, text: str, times: int = 1) -> None:
    eventually(
        f"it says {text}", lambda: running.printed().count(text) >= times, INSTALL, every=0.05
    )


def press_enter(running: Machine) -> None:
    """On the keyboard that is plugged in."""
    running.ask("send-key", keys=[{"type": "qcode", "data": "ret"}])


def record_of(medium: Path, folder: str) -> Any:
    return json.loads(get_file(medium, Label.INVENTORY, f"{folder}/record.json"))


def config_of(disk: Path) -> set[str]:
    command = ["mdir", "-b", "-i", volume(disk, Label.CONFIG)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.removeprefix("::/").strip() for line in shown.splitlines()}
