"""Disk images of strangers: what is refused before any tool opens it, and what becomes a disk."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevirt.host.files import DiskError
from edgevirt.host.volumes.convert import convert, virtual_size
from edgevirt.host.volumes.image import MOST_VIRTUAL, BadDiskImage, read_disk_image
from edgevirt.model.content import ContentFormat

MEGABYTE = 1 << 20
SECRET = b"what only the node may read"
MADE = {
    ContentFormat.QCOW: "qcow",
    ContentFormat.QCOW2: "qcow2",
    ContentFormat.VMDK: "vmdk",
    ContentFormat.VHD: "vpc",
    ContentFormat.VHDX: "vhdx",
}


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


def make(path: Path, kind: str, *options: str) -> Path:
    qemu_img("create", "-f", kind, *options, path, MEGABYTE)
    return path


def patched(path: Path, offset: int, data: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return path


def refused(path: Path, format: ContentFormat) -> str:
    with pytest.raises(BadDiskImage) as told:
        read_disk_image(path, format)
    return str(told.value)


# -- refused by its header ---------------------------------------------------------------------


def test_a_qcow2_with_a_backing_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "base", "raw")
    made = tmp_path / "disk"
    qemu_img("create", "-f", "qcow2", "-b", tmp_path / "base", "-F", "raw", made)
    assert refused(made, ContentFormat.QCOW2) == "it names a backing file"


def test_a_qcow2_with_a_data_file_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "disk"
    qemu_img(
        *("create", "-f", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on"),
        *(made, MEGABYTE),
    )
    assert refused(made, ContentFormat.QCOW2) == "it names a data file"


def test_a_data_file_hidden_behind_a_cleared_feature_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "disk"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", made, MEGABYTE)
    patched(made, 72, struct.pack(">Q", 0))
    assert refused(made, ContentFormat.QCOW2) == "it names a data file"


def test_a_qcow2_of_impossible_size_or_features_is_refused(tmp_path: Path) -> None:
    huge = patched(make(tmp_path / "huge", "qcow2"), 24, struct.pack(">Q", MOST_VIRTUAL + 1))
    assert "are the bound" in refused(huge, ContentFormat.QCOW2)
    new = patched(make(tmp_path / "new", "qcow2"), 72, struct.pack(">Q", 1 << 40))
    assert "unknown features" in refused(new, ContentFormat.QCOW2)


def test_a_qcow2_whose_header_is_cut_anywhere_is_refused_in_words(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", "qcow2").read_bytes()
    for length in range(8, 112):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert "header" in refused(tmp_path / "cut", ContentFormat.QCOW2), length


def test_a_raw_disk_that_is_another_format_by_its_content_is_refused(tmp_path: Path) -> None:
    for kind in ("qcow2", "vmdk", "vhdx"):
        made = make(tmp_path / kind, kind)
        assert refused(made, ContentFormat.RAW) == f"it is a {kind} disk by its content"


def test_a_vmdk_that_only_names_other_files_is_refused(tmp_path: Path) -> None:
    description = tmp_path / "disk.vmdk"
    description.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        'createType="monolithicFlat"\nRW 2048 FLAT "/etc/shadow" 0\n'
    )
    why = refused(description, ContentFormat.VMDK)
    assert why == "it is a description that names other files"


def test_a_vmdk_whose_description_names_a_file_of_the_node_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path / "disk.vmdk", "vmdk")
    data = made.read_bytes()
    place = data.index(b"RW 2048 SPARSE")
    evil = patched(made, place, b'RW 2048 FLAT "/etc/shadow" 0\n')
    assert refused(evil, ContentFormat.VMDK) == "it names other files as its extents"


def test_a_vmdk_that_holds_a_description_instead_of_a_disk_is_refused(tmp_path: Path) -> None:
    made = patched(make(tmp_path / "disk.vmdk", "vmdk"), 12, struct.pack("<Q", 0))
    assert refused(made, ContentFormat.VMDK) == "it holds a description instead of a disk"


def test_a_vhd_with_a_parent_is_refused(tmp_path: Path) -> None:
    made = patched(make(tmp_path / "disk.vhd", "vpc"), 60, struct.pack(">I", 4))
    assert refused(made, ContentFormat.VHD) == "it names a parent disk"


def test_an_image_of_another_format_than_was_said_is_refused(tmp_path: Path) -> None:
    raw = make(tmp_path / "disk", "raw")
    for format in MADE:
        assert refused(raw, format) == "it is something else by its content"
    assert "not served" in refused(raw, ContentFormat.OVA)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    magic=st.sampled_from([b"QFI\xfb\0\0\0\3", b"QFI\xfb\0\0\0\1", b"KDMV", b"conectix", b""]),
    rest=st.binary(max_size=2000),
    format=st.sampled_from(list(ContentFormat)),
)
def test_no_header_does_more_than_being_refused(
    tmp_path: Path, magic: bytes, rest: bytes, format: ContentFormat
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(magic + rest)
    try:
        facts = read_disk_image(path, format)
    except BadDiskImage:
        return
    assert 0 <= facts.virtual_size <= MOST_VIRTUAL


# -- made into a disk of our own -----------------------------------------------------------------


@pytest.mark.parametrize("format", list(MADE))
async def test_an_image_of_each_format_becomes_a_disk(
    tmp_path: Path, format: ContentFormat
) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"edge".ljust(MEGABYTE, b"\0"))
    source, target = tmp_path / "source", tmp_path / "target"
    qemu_img("convert", "-f", "raw", "-O", MADE[format], raw, source)
    facts = read_disk_image(source, format)
    assert facts.virtual_size in (0, await virtual_size(source, format))
    await convert(source, format, target, 8 * MEGABYTE)
    assert read_disk_image(target, ContentFormat.QCOW2).virtual_size == 8 * MEGABYTE
    qemu_img("convert", "-f", "qcow2", "-O", "raw", target, raw)
    assert raw.read_bytes()[:5] == b"edge\0"


async def test_the_tool_itself_reaches_no_other_file(tmp_path: Path) -> None:
    """Even if a header got past the first look."""
    secret, target = tmp_path / "secret", tmp_path / "target"
    secret.write_bytes(SECRET.ljust(MEGABYTE, b"\0"))
    evil = tmp_path / "evil"
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", evil)
    with pytest.raises(BadDiskImage, match="Permission denied"):
        await convert(evil, ContentFormat.QCOW2, target, MEGABYTE)
    assert SECRET not in target.read_bytes()


async def test_a_corrupt_image_is_the_image_s_fault(tmp_path: Path) -> None:
    torn = patched(make(tmp_path / "torn", "qcow2"), 40, struct.pack(">Q", 12345))
    with pytest.raises(BadDiskImage):
        await convert(torn, ContentFormat.QCOW2, tmp_path / "target", MEGABYTE)


async def test_a_full_disk_is_not_the_image_s_fault(tmp_path: Path) -> None:
    source = tmp_path / "source"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", _noise(tmp_path / "raw"), source)
    with pytest.raises(DiskError, match="full"):
        await convert(source, ContentFormat.QCOW2, Path("/dev/full"), MEGABYTE)


def _noise(path: Path) -> Path:
    path.write_bytes(b"x" * MEGABYTE)
    return path
