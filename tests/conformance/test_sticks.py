"""The laws of the Sticks protocol: mtools on real FAT file systems, and the fake."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgevirt.host.disk.sticks import MtoolsSticks, StickError, Sticks
from edgevirt.host.fakes.sticks import FakeStick, FakeSticks


def make_image(path: Path, label: str) -> None:
    with path.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.vfat", "-n", label, str(path)], check=True, capture_output=True)
    make = ["mmd", "-i", str(path), "::identity"]
    subprocess.run(make, check=True, env={"MTOOLSRC": "/dev/null", "PATH": "/usr/bin:/bin"})


def block(blocks: Path, name: str, *, removable: str = "1", uevent: str = "") -> None:
    (blocks / name).mkdir(parents=True)
    (blocks / name / "removable").write_text(removable)
    (blocks / name / "uevent").write_text(uevent)


@pytest.fixture(params=["fake", "real"])
def sticks(request: pytest.FixtureRequest, tmp_path: Path) -> Sticks:
    """One of them is plugged in, with a directory `identity`."""
    if request.param == "fake":
        return FakeSticks({"sdb": FakeStick(directories={"identity"})})
    block(tmp_path / "block", "sdb")
    (tmp_path / "dev").mkdir()
    make_image(tmp_path / "dev" / "sdb", "DEVICEPORTC")
    return MtoolsSticks(tmp_path / "block", tmp_path / "dev")


async def test_it_is_found(sticks: Sticks) -> None:
    assert list(await sticks.find()) == ["sdb"]


async def test_a_file_comes_back_as_it_was_written(sticks: Sticks) -> None:
    assert await sticks.read("sdb", "usb.json") is None
    for content in (b"{}\n\x00\xff", b"other"):
        await sticks.write("sdb", "usb.json", content)
        assert await sticks.read("sdb", "usb.json") == content


async def test_directories_are_made_once_and_hold_files(sticks: Sticks) -> None:
    assert await sticks.has_directory("sdb", "identity")
    assert not await sticks.has_directory("sdb", "identity/S-1")
    for _ in range(2):
        await sticks.make_directory("sdb", "identity/S-1")
    assert await sticks.has_directory("sdb", "identity/S-1")
    await sticks.write("sdb", "identity/S-1/uuid", b"u")
    assert await sticks.read("sdb", "identity/S-1/uuid") == b"u"


async def test_what_cannot_be_written_is_told(sticks: Sticks) -> None:
    with pytest.raises(StickError, match="cannot write to the stick sdb"):
        await sticks.write("sdb", "none/file", b"x")


# -- how a real one is found ----------------------------------------------------------------------


PARTITION = "DEVNAME=vdb1\nPARTNAME=DevicePortConfig\n"


@pytest.mark.parametrize(
    ("label", "removable", "uevent", "found"),
    [
        ("QEMU VVFAT", "1", "", ["sdb"]),
        ("HOLIDAYS", "1", "", []),
        ("", "1", "", []),
        ("DEVICEPORTC", "0", "", []),
        ("", "0", PARTITION, ["sdb"]),
    ],
    ids=["qemu", "other label", "no fat", "built in", "partition"],
)
async def test_only_what_bears_the_label_and_can_be_pulled_is_looked_at(
    tmp_path: Path, label: str, removable: str, uevent: str, found: list[str]
) -> None:
    blocks, devices = tmp_path / "block", tmp_path / "dev"
    devices.mkdir()
    block(blocks, "sdb", removable=removable, uevent=uevent)
    if label:
        make_image(devices / "sdb", label)
    else:
        (devices / "sdb").write_bytes(b"x" * 9000)
    assert list(await MtoolsSticks(blocks, devices).find()) == found


async def test_a_drive_without_a_medium_is_no_stick(tmp_path: Path) -> None:
    block(tmp_path / "block", "sdb")
    assert list(await MtoolsSticks(tmp_path / "block", tmp_path / "dev").find()) == []
