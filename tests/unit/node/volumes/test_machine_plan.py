"""A content tree that is an Edge Container Image: which blobs are fetched, and what they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgevirt.model.base import SwState
from edgevirt.model.content import BlobChild, BlobRole, ContentFormat
from edgevirt.model.eci import Declared, Part, PartKind, TreePart
from edgevirt.model.ids import Digest
from edgevirt.wire import oci
from tests.worlds.content_plan import BASE, CONFIG, MANIFEST, TOP, World, by_digest

GOLDEN = Path("tests/golden/eci")
HERE = oci.Platform("amd64", "linux")
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"


def machine(format: ContentFormat = ContentFormat.CONTAINER) -> World:
    """A tree whose root turned out to be a manifest."""
    world = World(by_digest(format=format))
    world.downloaded(MANIFEST, media_type=oci.MANIFEST)
    world.plan()
    return world


def load(world: World, name: str, **changed: Any) -> tuple[BlobChild, ...]:
    """The manifest is there, as the verifier reads it."""
    manifest = oci.parse_manifest((GOLDEN / name).read_bytes(), HERE)
    declared = structs.replace(manifest.declared, **changed)
    world.status(MANIFEST, children=manifest.children, declared=declared)
    return manifest.children


def loaded(world: World, children: tuple[BlobChild, ...]) -> None:
    """All that the tree wants is there; of layers, the files that were sought."""
    world.plan()
    for child in children:
        seek = (child.part.file,) if child.part is not None and child.part.file else ()
        unpacked = 5000 if child.role == BlobRole.LAYER else 0
        world.status(child.digest, size=child.size, asked=seek, found=seek, unpacked=unpacked)
    world.plan()


def of_kind(children: tuple[BlobChild, ...], kind: PartKind) -> Digest:
    return next(child.digest for child in children if child.part and child.part.kind == kind)


def test_each_part_of_an_artifact_is_fetched_and_none_is_unpacked() -> None:
    world = machine(ContentFormat.QCOW2)
    children = load(world, "artifacts.json", cmdline="quiet")
    world.plan()
    assert set(world.requests()) == {child.digest for child in children}
    loaded(world, children)
    assert {claim.role for claim in world.claims().values()} == {
        BlobRole.MANIFEST,
        BlobRole.MACHINE,
        BlobRole.FILE,
    }
    tree = world.tree()
    assert tree.state == SwState.LOADED
    assert tree.path == f"/p/{oci.hex_of(of_kind(children, PartKind.ROOT))}"
    assert (tree.format, tree.disk_size) == (ContentFormat.QCOW2, 30)
    assert tree.declared == Declared(cmdline="quiet")
    assert [(one.part.kind, one.path) for one in tree.parts] == [
        (child.part.kind, f"/p/{oci.hex_of(child.digest)}") for child in children if child.part
    ]
    assert tree.layers == ()


def test_a_machine_is_one_too_when_the_config_takes_it_for_a_container() -> None:
    world = machine(ContentFormat.CONTAINER)
    loaded(world, load(world, "artifacts.json"))
    assert world.tree().state == SwState.LOADED
    assert world.tree().format == ContentFormat.QCOW2


def test_parts_in_layers_of_files_are_looked_for_by_the_verifier() -> None:
    world = machine(ContentFormat.VMDK)
    children = load(world, "legacy.json")
    world.plan()
    root = of_kind(children, PartKind.ROOT)
    world.downloaded(root)
    world.plan()
    assert world.claims()[root].role == BlobRole.LAYER
    assert world.claims()[root].seek == ("/disk-root-ubuntu.vmdk",)
    world.status(root)  # as of a claim that sought nothing
    world.plan()
    assert world.tree().state == SwState.DOWNLOADING
    loaded(world, children)
    tree = world.tree()
    assert tree.state == SwState.LOADED
    assert tree.path == f"/p/{oci.hex_of(root)}/disk-root-ubuntu.vmdk"
    assert (tree.format, tree.disk_size) == (ContentFormat.VMDK, 5000)


def test_a_part_that_is_not_in_its_layer_fails_the_tree() -> None:
    world = machine(ContentFormat.VMDK)
    children = load(world, "legacy.json")
    loaded(world, children)
    root = of_kind(children, PartKind.ROOT)
    world.status(root, asked=("/disk-root-ubuntu.vmdk",))
    world.plan()
    assert world.tree().state == SwState.FAILED
    assert world.tree().trouble is not None
    assert "no file /disk-root-ubuntu.vmdk in its layer" in world.tree().trouble.why  # type: ignore[union-attr]


def labelled(world: World) -> tuple[str, ...]:
    """An image of two layers that docker built; returns what is sought in each."""
    layers = tuple(
        BlobChild(digest=digest, role=BlobRole.LAYER, size=100, media_type=TAR)
        for digest in (BASE, TOP)
    )
    config = BlobChild(digest=CONFIG, role=BlobRole.CONFIG, size=10, media_type=oci.CONFIG)
    world.status(MANIFEST, children=(config, *layers))
    world.plan()
    labels = oci.parse_labels((GOLDEN / "docker-config.json").read_bytes())
    world.status(CONFIG, labels=labels, diff_ids=())
    world.plan()
    for digest in (BASE, TOP):
        world.downloaded(digest)
    world.plan()
    return world.claims()[BASE].seek


@pytest.mark.parametrize("format", [ContentFormat.CONTAINER, ContentFormat.RAW])
def test_labels_of_a_docker_image_tell_its_parts_and_the_topmost_layer_wins(
    format: ContentFormat,
) -> None:
    world = machine(format)
    seek = labelled(world)
    assert seek == ("/disk1.iso", "/disk2.vmdk", "/initrd", "/kernel", "/root.img")
    world.status(BASE, asked=seek, found=seek)
    world.plan()
    assert world.tree().state == SwState.DOWNLOADING
    world.status(TOP, asked=seek, found=("/kernel",))
    world.plan()
    tree = world.tree()
    assert tree.state == SwState.LOADED
    assert tree.path == f"/p/{'a' * 64}/root.img"
    assert [(one.part.kind, one.digest) for one in tree.parts] == [
        (PartKind.ROOT, BASE),
        (PartKind.DISK, BASE),
        (PartKind.DISK, BASE),
        (PartKind.INITRD, BASE),
        (PartKind.KERNEL, TOP),
    ]
    formats = [one.part.format for one in tree.parts[:3]]
    assert formats == [ContentFormat.RAW, ContentFormat.ISO, ContentFormat.VMDK]


def test_a_file_that_a_label_names_and_no_layer_has_fails_the_tree() -> None:
    world = machine()
    seek = labelled(world)
    for digest in (BASE, TOP):
        world.status(digest, asked=seek, found=seek[:-1])
    world.plan()
    assert world.tree().state == SwState.FAILED
    assert "no file /root.img in its layers" in str(world.tree().trouble)


def test_a_root_disk_of_another_format_than_the_config_says_fails_the_tree() -> None:
    world = machine(ContentFormat.RAW)
    loaded(world, load(world, "artifacts.json"))
    assert world.tree().state == SwState.FAILED
    assert "its root disk is QCOW2, the config says RAW" in str(world.tree().trouble)


def test_a_disk_of_pieces_is_fetched_piece_by_piece_and_shared_ones_once() -> None:
    world = machine(ContentFormat.RAW)
    pieces = [(0, BASE), (100, TOP), (4096, BASE)]
    children = tuple(
        BlobChild(
            digest=digest,
            role=BlobRole.FILE,
            size=100,
            media_type="",
            part=Part(kind=PartKind.PIECE, format=ContentFormat.RAW, offset=offset),
        )
        for offset, digest in pieces
    )
    world.status(MANIFEST, children=children, declared=Declared(disk_size=1 << 20))
    world.plan()
    assert set(world.requests()) == {BASE, TOP}
    loaded(world, children)
    tree = world.tree()
    assert (tree.state, tree.format, tree.path) == (SwState.LOADED, ContentFormat.RAW, "")
    assert tree.disk_size == 1 << 20
    assert [(one.part.offset, one.digest) for one in tree.parts] == pieces
    assert tree.size == 300  # the manifest, and each blob once


def test_a_kernel_alone_is_a_machine_without_a_disk() -> None:
    world = machine()
    part = Part(kind=PartKind.KERNEL)
    child = BlobChild(digest=BASE, role=BlobRole.FILE, size=9, media_type="", part=part)
    world.status(MANIFEST, children=(child,), declared=Declared())
    loaded(world, (child,))
    tree = world.tree()
    assert (tree.state, tree.format, tree.path) == (SwState.LOADED, ContentFormat.UNKNOWN, "")
    assert tree.parts == (TreePart(part=part, digest=BASE, path=f"/p/{'a' * 64}"),)


def test_one_blob_for_two_things_fails_the_tree() -> None:
    document = json.loads((GOLDEN / "legacy.json").read_text())
    document["config"]["digest"] = document["layers"][0]["digest"]
    manifest = oci.parse_manifest(json.dumps(document).encode(), HERE)
    world = machine(ContentFormat.VMDK)
    world.status(MANIFEST, children=manifest.children, declared=manifest.declared)
    world.plan()
    assert "for two things" in str(world.tree().trouble)
    assert not world.requests()
