"""Images made here are the same for the same input, and what a node reads back."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from edgevirt.image.eci.oci import make_image, make_index, pack_layer
from edgevirt.model.content import BlobRole, ImageConfig
from edgevirt.wire import oci

AMD64, ARM64 = oci.Platform("amd64", "linux"), oci.Platform("arm64", "linux", "v8")


def make_root(where: Path) -> Path:
    (where / "etc").mkdir(parents=True)
    (where / "bin").mkdir()
    (where / "bin/app").write_bytes(b"#!/bin/sh\n")
    (where / "bin/app").chmod(0o755)
    os.link(where / "bin/app", where / "bin/same")
    (where / "etc/link").symlink_to("/nowhere")
    return where


def test_the_same_directory_makes_the_same_layer_whenever_and_wherever(tmp_path: Path) -> None:
    one = pack_layer(make_root(tmp_path / "one"), tmp_path / "1")
    other_root = make_root(tmp_path / "other")
    os.utime(other_root / "bin/app", (1, 1))
    other = pack_layer(other_root, tmp_path / "2")
    assert (one.digest, one.diff_id, one.size) == (other.digest, other.diff_id, other.size)
    assert one.path.read_bytes() == other.path.read_bytes()


def test_a_layer_s_digests_are_those_of_its_bytes(tmp_path: Path) -> None:
    import gzip

    layer = pack_layer(make_root(tmp_path / "root"), tmp_path / "layer")
    data = layer.path.read_bytes()
    assert layer.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    assert layer.size == len(data)


def test_a_layer_holds_modes_and_links_and_root_owns_all(tmp_path: Path) -> None:
    layer = pack_layer(make_root(tmp_path / "root"), tmp_path / "layer")
    with tarfile.open(layer.path) as tar:
        members = {member.name: member for member in tar}
    assert sorted(members) == ["bin", "bin/app", "bin/same", "etc", "etc/link"]
    assert members["bin/app"].mode == 0o755
    assert members["bin/same"].linkname == "bin/app"
    assert members["etc/link"].linkname == "/nowhere"
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}


def test_a_node_reads_back_what_an_image_was_made_of(tmp_path: Path) -> None:
    layer = pack_layer(make_root(tmp_path / "root"), tmp_path / "layer")
    wanted = ImageConfig(entrypoint=("/bin/app",), cmd=("x",), env=("A=1",), workdir="/srv")
    image = make_image([layer, layer], wanted, AMD64)
    config, *layers = oci.parse_manifest(image.manifest, AMD64).children
    assert config.digest == f"sha256:{hashlib.sha256(image.config).hexdigest()}"
    assert config.size == len(image.config)
    assert [child.digest for child in layers] == [layer.digest] * 2
    assert oci.parse_config(image.config, AMD64) == (wanted, (layer.diff_id,) * 2)


def test_an_index_leads_each_machine_to_its_own_image() -> None:
    here, there = make_image([], ImageConfig(), AMD64), make_image([], ImageConfig(), ARM64)
    index = make_index([(here, AMD64), (there, ARM64)])
    for platform, image in ((AMD64, here), (ARM64, there)):
        (child,) = oci.parse_manifest(index, platform).children
        assert (child.digest, child.role) == (image.digest, BlobRole.MANIFEST)
        assert child.size == len(image.manifest)
    with pytest.raises(oci.BadDocument):
        oci.parse_manifest(index, oci.Platform("riscv64", "linux"))
