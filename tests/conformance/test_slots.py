"""Slots: one set of rules for the disk's and for the fake's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevirt.host.disk import grubenv
from edgevirt.host.disk.fat import locate
from edgevirt.host.disk.slots import DiskSlots, SlotError, Slots
from edgevirt.host.fakes.slots import IMAGE, FakeSlots
from edgevirt.model.baseos import SlotState
from edgevirt.model.disk import ENVIRONMENT, MIB, Label

ACTIVE, UPDATING = SlotState.ACTIVE, SlotState.UPDATING
INPROGRESS, UNUSED = SlotState.INPROGRESS, SlotState.UNUSED
SIZE = 8 * MIB
FATS = [("12", "4", 5), ("16", "4", 10), ("32", "1", 36)]

Image = Callable[[Path, str], Path]


def squashfs(directory: Path, version: str) -> Path:
    """A root image of this version."""
    root = directory / f"root-{version}"
    (root / "etc").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    (root / "etc/edgevirt-release").write_text(f'{{"version": "{version}", "arch": "amd64"}}')
    for number in range(300):  # so many that names and inodes fill more than one block
        (root / "etc" / f"file-{number:03}-{'x' * 40}").write_text(str(number))
    (root / "usr/bin/tool").write_bytes(bytes(range(256)) * 3000)
    image = directory / f"{version}.sqfs"
    subprocess.run(
        ["mksquashfs", str(root), str(image), "-comp", "gzip", "-noappend", "-quiet"],
        check=True,
        capture_output=True,
    )
    return image


def fake_image(directory: Path, version: str) -> Path:
    image = directory / f"{version}.img"
    image.write_bytes(IMAGE + version.encode() + b"\n" + bytes(range(256)) * 9000)
    return image


def make_esp(path: Path, bits: str = "32", cluster: str = "1", size: int = 36) -> Path:
    """An EFI System partition with an environment block, as the installer leaves it."""
    with path.open("wb") as file:
        file.truncate(size * MIB)
    subprocess.run(["mkfs.vfat", "-F", bits, "-s", cluster, str(path)], check=True, stdout=-3)
    block = path.with_name("block")
    block.write_bytes(grubenv.render({"IMGA": "active", "IMGB": "unused"}))
    other = path.with_name("other")
    other.write_bytes(b"x" * 5000)
    for command in (
        ["mmd", "-i", path, "::EFI", "::EFI/BOOT"],
        ["mcopy", "-i", path, other, "::EFI/BOOT/BOOTX64.EFI"],
        ["mcopy", "-i", path, block, "::EFI/BOOT/grubenv"],
    ):
        subprocess.run([str(word) for word in command], check=True)
    return path


def disk_slots(directory: Path) -> DiskSlots:
    partitions = {Label.ESP: make_esp(directory / "esp")}
    for label in (Label.IMGA, Label.IMGB):
        partitions[label] = directory / label
        with partitions[label].open("wb") as file:
            file.truncate(SIZE)
    return DiskSlots("IMGA", {str(label): path for label, path in partitions.items()})


@pytest.fixture(params=["disk", "fake"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "disk" and not shutil.which("mksquashfs"):
        pytest.skip("squashfs-tools are not installed")
    return str(request.param)


@pytest.fixture
def slots(kind: str, tmp_path: Path) -> Slots:
    return disk_slots(tmp_path) if kind == "disk" else FakeSlots(size=SIZE)


@pytest.fixture
def image(kind: str) -> Image:
    return squashfs if kind == "disk" else fake_image


def silent(done: int) -> None:
    """Nobody asks how far it is."""


def test_states_come_back_as_they_were_set_and_together(slots: Slots) -> None:
    assert slots.labels == ("IMGA", "IMGB")
    assert slots.states() == {"IMGA": ACTIVE, "IMGB": UNUSED}
    slots.set_states({"IMGB": UPDATING})
    assert slots.states() == {"IMGA": ACTIVE, "IMGB": UPDATING}
    slots.set_states({"IMGA": UNUSED, "IMGB": ACTIVE})
    assert slots.states() == {"IMGA": UNUSED, "IMGB": ACTIVE}


def test_what_is_written_is_read_back_with_its_version(
    slots: Slots, image: Image, tmp_path: Path
) -> None:
    source = image(tmp_path, "2.0-kvm-amd64")
    length = source.stat().st_size
    heard: list[int] = []
    slots.write("IMGB", source, heard.append)
    assert heard[-1] == length
    assert heard == sorted(heard)
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    assert slots.digest("IMGB", length, silent) == wanted
    assert slots.version("IMGB") == "2.0-kvm-amd64"
    assert slots.version("IMGA") == ""
    assert slots.size("IMGB") == SIZE


def test_the_slot_that_runs_is_never_written_to(slots: Slots, image: Image, tmp_path: Path) -> None:
    with pytest.raises(SlotError, match="runs from it"):
        slots.write("IMGA", image(tmp_path, "2"), silent)


def test_a_write_that_is_stopped_ends_where_it_is(
    slots: Slots, image: Image, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        raise Stop

    source = image(tmp_path, "2")
    with pytest.raises(Stop):
        slots.write("IMGB", source, stop)
    length = source.stat().st_size
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    slots.write("IMGB", source, silent)
    assert slots.digest("IMGB", length, silent) == wanted


def test_more_is_not_read_back_than_fits(slots: Slots) -> None:
    with pytest.raises(SlotError, match="cannot read IMGB back"):
        slots.digest("IMGB", SIZE + 1, silent)


# -- the disk's alone ----------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "cluster", "size"), FATS)
def test_the_block_is_found_on_every_kind_of_fat(
    tmp_path: Path, bits: str, cluster: str, size: int
) -> None:
    esp = make_esp(tmp_path / "esp", bits, cluster, size)
    slots = DiskSlots("IMGA", {Label.ESP: esp, "IMGA": esp, "IMGB": esp})
    slots.set_states({"IMGB": UPDATING})
    subprocess.run(
        ["mcopy", "-n", "-i", str(esp), "::EFI/BOOT/grubenv", str(tmp_path / "copy")], check=True
    )
    copy = (tmp_path / "copy").read_bytes()
    assert len(copy) == grubenv.SIZE
    assert grubenv.parse(copy) == {"IMGA": "active", "IMGB": "updating"}


def test_a_change_touches_one_sector_and_nothing_else(tmp_path: Path) -> None:
    """So that a power cut cannot tear it: sectors are written whole or not at all."""
    slots = disk_slots(tmp_path)
    esp = slots.partitions[Label.ESP]
    before = esp.read_bytes()
    slots.set_states({"IMGA": UNUSED, "IMGB": INPROGRESS})
    after = esp.read_bytes()
    with esp.open("rb") as file:
        clusters, _ = locate(file, ENVIRONMENT)
    changed = {index // 512 for index in range(len(before)) if before[index] != after[index]}
    assert changed == {clusters[0] // 512}


def test_a_damaged_block_is_told_and_made_whole_by_the_next_change(tmp_path: Path) -> None:
    slots = disk_slots(tmp_path)
    esp = slots.partitions[Label.ESP]
    with esp.open("r+b") as file:
        clusters, _ = locate(file, ENVIRONMENT)
        file.seek(clusters[0])
        file.write(b"\xff" * 512)
    with pytest.raises(SlotError, match="damaged"):
        slots.states()
    slots.set_states({"IMGA": ACTIVE, "IMGB": UNUSED})
    assert slots.states() == {"IMGA": ACTIVE, "IMGB": UNUSED}


def test_variables_of_others_in_the_block_stay(tmp_path: Path) -> None:
    slots = disk_slots(tmp_path)
    block = tmp_path / "more"
    block.write_bytes(grubenv.render({"IMGA": "active", "theirs": "1"}))
    esp = str(slots.partitions[Label.ESP])
    subprocess.run(["mcopy", "-o", "-i", esp, str(block), "::EFI/BOOT/grubenv"], check=True)
    slots.set_states({"IMGB": UPDATING})
    subprocess.run(
        ["mcopy", "-n", "-i", esp, "::EFI/BOOT/grubenv", str(tmp_path / "c")], check=True
    )
    assert grubenv.parse((tmp_path / "c").read_bytes())["theirs"] == "1"


@pytest.mark.parametrize("damage", [0, 96, 200, 4000])
def test_a_damaged_image_has_no_version_and_does_no_harm(tmp_path: Path, damage: int) -> None:
    if not shutil.which("mksquashfs"):
        pytest.skip("squashfs-tools are not installed")
    slots = disk_slots(tmp_path)
    source = squashfs(tmp_path, "3")
    content = bytearray(source.read_bytes())
    for index in range(damage, len(content), 97):
        content[index] ^= 0x5A
    slots.partitions["IMGB"].write_bytes(content)
    assert slots.version("IMGB") == ""
