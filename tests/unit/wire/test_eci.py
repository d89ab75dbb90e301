"""Edge Container Images as lf-edge/edge-containers annotates them, and what must be refused.

The golden manifests were written by hand from its documentation and its constants.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.model.content import BlobRole
from edgevirt.model.eci import ContentFormat, Declared, Part, PartKind, Wants
from edgevirt.wire import eci, oci
from edgevirt.wire.errors import BadDocument

HERE = oci.Platform("amd64", "linux")
GOLDEN = Path("tests/golden/eci")
Document = dict[str, Any]


def golden(name: str) -> Document:
    document: Document = json.loads((GOLDEN / name).read_text())
    return document


def read(document: Document) -> oci.Manifest:
    return oci.parse_manifest(json.dumps(document).encode(), HERE)


def test_an_artifact_is_its_parts_and_the_machine_that_it_is_for() -> None:
    manifest = read(golden("artifacts.json"))
    assert [child.role for child in manifest.children] == [BlobRole.MACHINE] + [BlobRole.FILE] * 5
    assert manifest.parts == (
        Part(kind=PartKind.KERNEL),
        Part(kind=PartKind.INITRD),
        Part(kind=PartKind.ROOT, format=ContentFormat.QCOW2),
        Part(kind=PartKind.DISK, format=ContentFormat.ISO, disk=0),
        Part(kind=PartKind.DISK, format=ContentFormat.RAW, disk=1),
    )


def test_parts_that_are_packed_as_layers_of_files_are_found_by_their_title() -> None:
    manifest = read(golden("legacy.json"))
    assert [child.role for child in manifest.children] == [BlobRole.MACHINE] + [BlobRole.LAYER] * 2
    assert manifest.parts == (
        Part(kind=PartKind.KERNEL, file="/kernel"),
        Part(kind=PartKind.ROOT, format=ContentFormat.VMDK, file="/disk-root-ubuntu.vmdk"),
    )


def test_labels_of_an_image_that_docker_built_tell_where_its_parts_are() -> None:
    labels = oci.parse_labels((GOLDEN / "docker-config.json").read_bytes())
    assert [eci.labelled_part(what, path) for what, path in labels] == [
        Part(kind=PartKind.ROOT, file="/root.img"),
        Part(kind=PartKind.DISK, disk=1, file="/disk1.iso"),
        Part(kind=PartKind.DISK, disk=2, file="/disk2.vmdk"),
        Part(kind=PartKind.INITRD, file="/initrd"),
        Part(kind=PartKind.KERNEL, file="/kernel"),
    ]


def test_the_system_that_an_artifact_was_made_on_does_not_matter_its_architecture_does() -> None:
    oci.check_machine(b'{"architecture": "amd64", "os": "darwin"}', HERE)
    oci.check_machine(b"{}", HERE)
    with pytest.raises(BadDocument, match="for linux/arm64: this machine is linux/amd64"):
        oci.check_machine(b'{"architecture": "arm64", "os": "linux"}', HERE)


def test_a_container_s_layers_are_no_parts_whatever_their_titles() -> None:
    layers = [{"digest": "sha256:" + "a" * 64, "size": 1, "annotations": {eci.TITLE: "kernel"}}]
    manifest = read({"schemaVersion": 2, "config": layers[0], "layers": layers})
    assert [child.role for child in manifest.children] == [BlobRole.CONFIG, BlobRole.LAYER]
    assert manifest.parts == ()


def test_what_an_image_declares_is_read_as_it_was_written() -> None:
    wants = Wants(cpus=2, memory=1 << 30, virtualization="FML", devices=("serial", "usb:camera"))
    declared = Declared(cmdline="console=ttyS0 quiet", disk_size=1 << 32, wants=wants)
    annotations = eci.annotations_of(declared)
    assert eci.declared_by(annotations) == declared
    assert eci.annotations_of(Declared()) == {}
    assert all(name.startswith("io.edgevirt.eci.") for name in annotations)


def piece(offset: object, size: int = 10) -> Document:
    return {
        "digest": "sha256:" + "a" * 64,
        "size": size,
        "mediaType": eci.PIECE,
        "annotations": {eci.ROLE: eci.PIECE_ROLE, eci.OFFSET: str(offset)},
    }


def test_a_disk_may_be_made_of_pieces_with_gaps() -> None:
    manifest = read({"schemaVersion": 2, "layers": [piece(0), piece(10), piece(4096)]})
    assert [part.offset for part in manifest.parts] == [0, 10, 4096]


def without_boot(document: Document) -> None:
    document["layers"] = document["layers"][3:5]


def twice_a_kernel(document: Document) -> None:
    document["layers"].append(document["layers"][0])


def twice_a_root(document: Document) -> None:
    document["layers"].append(document["layers"][2])


def initrd_alone(document: Document) -> None:
    del document["layers"][0]


def unknown_role(document: Document) -> None:
    document["layers"][0]["annotations"][eci.ROLE] = "disk-of-doom"


def root_and_pieces(document: Document) -> None:
    document["layers"].append(piece(0))


def pieces_in_disorder(document: Document) -> None:
    document["layers"] = [piece(10), piece(0)]


def pieces_that_overlap(document: Document) -> None:
    document["layers"] = [piece(0), piece(9)]


def pieces_beyond_the_disk(document: Document) -> None:
    document["layers"] = [piece(0), piece(4090)]
    document["annotations"] = {eci.DISK_SIZE: "4096"}


def a_piece_nowhere(document: Document) -> None:
    document["layers"] = [piece("-1")]


def a_piece_in_the_clouds(document: Document) -> None:
    document["layers"] = [piece(1 << 51)]


def a_piece_of_another_type(document: Document) -> None:
    document["layers"] = [{**piece(0), "mediaType": eci.DISK + "qcow2"}]


def too_many_disks(document: Document) -> None:
    document["layers"] += [document["layers"][3]] * 20


def a_path_that_leads_out(document: Document) -> None:
    tar = "application/vnd.oci.image.layer.v1.tar+gzip"
    document["layers"][2]["mediaType"] = tar
    document["layers"][2]["annotations"][eci.TITLE] = "../../etc/shadow"


def a_disk_without_a_name_in_a_tar(document: Document) -> None:
    document["layers"][2]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    del document["layers"][2]["annotations"][eci.TITLE]


def a_command_line_of_two_lines(document: Document) -> None:
    document["annotations"] = {eci.CMDLINE: "quiet\ninit=/bin/sh"}


def a_device_with_a_comma_in_its_name(document: Document) -> None:
    document["annotations"] = {eci.DEVICES: "usb:a b"}


def memory_in_words(document: Document) -> None:
    document["annotations"] = {eci.MEMORY: "lots"}


@pytest.mark.parametrize(
    "spoil",
    [
        without_boot,
        twice_a_kernel,
        twice_a_root,
        initrd_alone,
        unknown_role,
        root_and_pieces,
        pieces_in_disorder,
        pieces_that_overlap,
        pieces_beyond_the_disk,
        a_piece_nowhere,
        a_piece_in_the_clouds,
        a_piece_of_another_type,
        too_many_disks,
        a_path_that_leads_out,
        a_disk_without_a_name_in_a_tar,
        a_command_line_of_two_lines,
        a_device_with_a_comma_in_its_name,
        memory_in_words,
    ],
)
def test_a_manifest_that_means_nothing_sound_is_refused(spoil: Callable[[Document], None]) -> None:
    document = golden("artifacts.json")
    spoil(document)
    with pytest.raises(BadDocument, match=r"^cannot use"):
        read(document)


_NAMES = st.sampled_from([eci.ROLE, eci.MEDIA_TYPE, eci.TITLE, eci.OFFSET])


@given(st.dictionaries(_NAMES, st.text()))
def test_any_annotations_are_read_or_refused(annotations: dict[str, str]) -> None:
    with contextlib.suppress(BadDocument):
        eci.part_of("application/vnd.oci.image.layer.v1.tar", annotations)
