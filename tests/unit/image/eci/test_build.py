"""Images built here are the same for the same input, and mean what the spec says."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from edgevirt.image.eci.build import build
from edgevirt.image.eci.describe import Description, describe, lines
from edgevirt.image.eci.layout import Layout, LayoutError
from edgevirt.image.eci.spec import Disk, EciSpec, Hardware, Piece, SpecError
from edgevirt.model.eci import ContentFormat, Part, PartKind, Wants
from edgevirt.model.ids import Digest
from edgevirt.wire import eci, oci

HERE = oci.Platform("amd64", "linux")
MI = 1 << 20
HEAD = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 20).ljust(100, b"\0")
QCOW2 = (HEAD + struct.pack(">I", 104)).ljust(1024, b"\0")


def made(where: Path, **spec: Any) -> tuple[Layout, Digest]:
    layout = Layout(where / "out")
    return layout, build(EciSpec(architecture="amd64", **spec), where, layout)


def described(where: Path, **spec: Any) -> Description:
    layout, digest = made(where, **spec)
    return describe(layout, digest, HERE)


def a_machine(where: Path) -> dict[str, Any]:
    (where / "vmlinuz").write_bytes(b"kernel")
    (where / "initrd.img").write_bytes(b"initrd")
    (where / "a.qcow2").write_bytes(QCOW2)
    (where / "b.raw").write_bytes(b"data")
    return {
        "kernel": "vmlinuz",
        "initrd": "initrd.img",
        "cmdline": "console=ttyS0",
        "root": Disk(file="a.qcow2"),
        "disks": (Disk(file="b.raw"),),
        "hardware": Hardware(cpus=2, memory="512Mi", virtualization="FML", devices=("serial",)),
        "annotations": {"org.opencontainers.image.title": "a machine"},
    }


def test_a_machine_is_what_a_node_reads_back(tmp_path: Path) -> None:
    layout, digest = made(tmp_path, **a_machine(tmp_path))
    manifest = oci.parse_manifest(layout.read(digest), HERE)
    assert manifest.parts == (
        Part(kind=PartKind.KERNEL),
        Part(kind=PartKind.INITRD),
        Part(kind=PartKind.ROOT, format=ContentFormat.QCOW2),
        Part(kind=PartKind.DISK, format=ContentFormat.RAW),
    )
    assert manifest.declared.cmdline == "console=ttyS0"
    assert manifest.declared.wants == Wants(
        cpus=2, memory=512 * MI, virtualization="FML", devices=("serial",)
    )
    for child in manifest.children:
        layout.prove(child.digest)
        assert layout.blob(child.digest).stat().st_size == child.size


def test_it_is_annotated_as_edge_containers_annotates(tmp_path: Path) -> None:
    layout, digest = made(tmp_path, **a_machine(tmp_path))
    document = json.loads(layout.read(digest))
    assert document["config"]["mediaType"] == oci.CONFIG
    assert [
        (layer["mediaType"], *sorted(layer["annotations"].values())) for layer in document["layers"]
    ] == [
        (eci.KERNEL, eci.KERNEL, "kernel", "kernel"),
        (eci.INITRD, eci.INITRD, "initrd", "initrd"),
        (eci.DISK + "qcow2", eci.DISK + "qcow2", "disk-root", "disk-root-a.qcow2"),
        (eci.DISK + "raw", eci.DISK + "raw", "disk-0-b.raw", "disk-additional"),
    ]
    config = json.loads(layout.read(Digest(document["config"]["digest"])))
    assert config["architecture"] == "amd64"
    assert config["config"]["Labels"] == {
        "org.lfedge.eci.artifact.disk-0": "/disk-0-b.raw",
        "org.lfedge.eci.artifact.initrd": "/initrd",
        "org.lfedge.eci.artifact.kernel": "/kernel",
        "org.lfedge.eci.artifact.root": "/disk-root-a.qcow2",
    }


def test_the_same_files_make_the_same_image_whenever_and_wherever(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "other"):
        (tmp_path / name / "root/bin").mkdir(parents=True)
        (tmp_path / name / "root/bin/app").write_text("#!/bin/sh")
        os.utime(tmp_path / name / "root/bin/app", (len(name), 1))
        machine = a_machine(tmp_path / name)
        digests.append(made(tmp_path / name, **machine)[1])
        digests.append(made(tmp_path / name, files=("root",), entrypoint=("/bin/app",))[1])
    assert digests[:2] == digests[2:]


def test_building_anew_into_a_layout_leaves_nothing_of_before(tmp_path: Path) -> None:
    layout, _ = made(tmp_path, **a_machine(tmp_path))
    (tmp_path / "c.raw").write_bytes(b"other")
    layout, digest = made(tmp_path, root=Disk(file="c.raw"))
    assert layout.root().digest == digest
    assert len(list(layout.blobs.iterdir())) == 3  # manifest, config, disk


def test_a_layout_is_not_written_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    (tmp_path / "c.raw").write_bytes(b"x")
    with pytest.raises(LayoutError, match="holds something else"):
        made(tmp_path, root=Disk(file="c.raw"))


def assemble(layout: Layout, digest: Digest) -> bytes:
    """What a node makes of pieces."""
    manifest = oci.parse_manifest(layout.read(digest), HERE)
    disk = bytearray(manifest.declared.disk_size)
    for child in manifest.children:
        if child.part is not None and child.part.kind == PartKind.PIECE:
            data = layout.blob(child.digest).read_bytes()
            disk[child.part.offset : child.part.offset + len(data)] = data
    return bytes(disk)


def test_a_raw_disk_is_cut_into_pieces_and_what_is_zero_is_left_out(tmp_path: Path) -> None:
    content = b"a" * MI + bytes(2 * MI) + b"b" * 100 + bytes(MI) + b"c" * MI + bytes(5000)
    (tmp_path / "d.raw").write_bytes(content)
    layout, digest = made(tmp_path, root=Disk(file="d.raw", chunk="1Mi"))
    assert assemble(layout, digest) == content
    found = describe(layout, digest, HERE)
    assert [item.offset for item in found.items] == [0, 3 * MI, 4 * MI, 5 * MI]
    assert found.disk_size == len(content)


def test_a_changed_byte_changes_one_piece_alone(tmp_path: Path) -> None:
    content = bytearray(os.urandom(4 * MI))
    before: list[str] = []
    after: list[str] = []
    for digests in (before, after):
        (tmp_path / "d.raw").write_bytes(content)
        found = described(tmp_path, root=Disk(file="d.raw", chunk="1Mi"))
        digests += [item.digest for item in found.items]
        content[2 * MI + 5] ^= 1
    assert [one == other for one, other in zip(before, after, strict=True)] == [
        True,
        True,
        False,
        True,
    ]


def test_a_disk_is_composed_of_files_at_offsets(tmp_path: Path) -> None:
    (tmp_path / "boot").write_bytes(b"boot" * 100)
    (tmp_path / "data").write_bytes(b"data" * 100)
    pieces = (Piece(file="boot"), Piece(file="data", offset="1Mi"))
    layout, digest = made(tmp_path, root=Disk(pieces=pieces, size="2Mi"))
    disk = assemble(layout, digest)
    assert (len(disk), disk[:400], disk[MI : MI + 400]) == (2 * MI, b"boot" * 100, b"data" * 100)
    assert not any(disk[400:MI])


def test_pieces_that_overlap_are_refused(tmp_path: Path) -> None:
    (tmp_path / "boot").write_bytes(bytes(5000))
    pieces = (Piece(file="boot"), Piece(file="boot", offset=4096))
    with pytest.raises(SpecError, match=r"root.pieces\[1\]: it begins before byte 5000"):
        made(tmp_path, root=Disk(pieces=pieces))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.raw", QCOW2, "it is a qcow2 disk by its content"),
        ("a.qcow2", b"MZ" * 100, "it is something else by its content"),
        ("a.qcow2", struct.pack(">4sIQ", b"QFI\xfb", 2, 512).ljust(99, b"\0"), "a backing file"),
        ("a.qcow2", struct.pack(">4sI", b"QFI\xfb", 3), "cut off"),
        (
            "a.qcow2",
            struct.pack(">4sIQ", b"QFI\xfb", 3, 0).ljust(72, b"\0") + struct.pack(">Q", 4),
            "it names a data file",
        ),
        ("a.vmdk", b'# Disk DescriptorFile\nRW 1 FLAT "/etc/shadow" 0\n', "names other files"),
    ],
)
def test_a_disk_that_is_not_what_it_is_called_or_not_whole_is_refused(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=why):
        made(tmp_path, root=Disk(file=name))


def test_files_that_are_not_there_are_named_with_their_field(tmp_path: Path) -> None:
    (tmp_path / "k").touch()
    specs: list[tuple[dict[str, Any], str]] = [
        ({"kernel": "none"}, "kernel"),
        ({"kernel": "k", "disks": (Disk(file="none.raw"),)}, r"disks\[0\].file"),
        ({"files": ("none",)}, r"files\[0\]"),
        ({"files": (".",)}, r"files\[0\]: the image would hold itself"),
        ({"root": Disk(pieces=(Piece(file="none"),))}, r"root.pieces\[0\].file"),
    ]
    for spec, field in specs:
        with pytest.raises(SpecError, match=field):
            made(tmp_path, **spec)


def test_an_image_is_told_in_words(tmp_path: Path) -> None:
    told = "\n".join(lines(described(tmp_path, **a_machine(tmp_path))))
    for words in (
        "machine, for linux/amd64",
        "console=ttyS0",
        "2 CPUs, 512Mi of memory, virtualization FML, serial",
        "root disk",
        "qcow2 disk-root-a.qcow2",
    ):
        assert words in told


def test_a_damaged_layout_is_not_believed(tmp_path: Path) -> None:
    layout, digest = made(tmp_path, **a_machine(tmp_path))
    layout.blob(digest).write_bytes(layout.blob(digest).read_bytes() + b" ")
    with pytest.raises(LayoutError, match="not those of its digest"):
        describe(layout, digest, HERE)
    (layout.directory / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    with pytest.raises(LayoutError, match="holds 0 images"):
        layout.root()
    (layout.directory / "index.json").write_text(
        '{"schemaVersion": 2, "manifests": [{"digest": "sha256:../../../etc/passwd", "size": 1}]}'
    )
    with pytest.raises(oci.BadDocument, match="no sha256 digest"):
        layout.root()
