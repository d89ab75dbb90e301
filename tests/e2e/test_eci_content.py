"""Edge Container Images on a node: made here, in Debian's registry, taken by three services."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.image.eci import registry as moving
from edgevirt.image.eci import signing
from edgevirt.image.eci.build import build
from edgevirt.image.eci.layout import Layout
from edgevirt.image.eci.oci import Image, Pusher, digest_of, pack_layer
from edgevirt.image.eci.spec import Disk, EciSpec
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat, ContentTreeStatus
from edgevirt.model.ids import ContentTreeId
from edgevirt.model.kinds import CONTENT_TREE, CONTENT_TREE_STATUS
from edgevirt.node.paths import Paths
from edgevirt.node.volumes.signatures import LOOK_AGAIN
from edgevirt.wire import cosign, eci, oci
from tests.parts.docker_registry import DockerRegistry, docker_registry
from tests.worlds.content import ContentWorld, make_busybox_image

pytestmark = [pytest.mark.root, pytest.mark.e2e]
MI = 1 << 20
DISK = b"what the disk holds".ljust(1 << 20, b"\0")


@pytest.fixture
def world(tmp_path: Path) -> ContentWorld:
    (tmp_path / "persist").mkdir()
    return ContentWorld(Paths(tmp_path / "config", tmp_path / "persist", tmp_path / "run"))


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry") as running:
        yield running


async def published(registry: DockerRegistry, where: Path, name: str, **spec: Any) -> str:
    """Built and pushed; returns the digest."""
    layout = Layout(where / f"layout-{name}")
    build(EciSpec(**spec), where, layout)
    remote = moving.parse_remote(f"{registry.host}/apps/{name}")
    async with moving.pusher_to(remote) as pusher:
        return await moving.push(layout, remote, pusher)


async def sign(registry: DockerRegistry, name: str, key: ec.EllipticCurvePrivateKey) -> None:
    remote = moving.parse_remote(f"{registry.host}/apps/{name}")
    async with moving.source_of(remote) as source, moving.pusher_to(remote) as pusher:
        await signing.sign(source, pusher, remote, key)


async def refused(world: ContentWorld, tree: str, why: str) -> ContentTreeStatus:
    found = await world.until(
        CONTENT_TREE_STATUS,
        tree,
        lambda tree: tree is not None and tree.state == SwState.FAILED and why in str(tree.trouble),
    )
    assert found is not None
    return found


# -- machines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [ContentFormat.CONTAINER, ContentFormat.RAW])
async def test_a_machine_with_a_disk_of_pieces_becomes_a_disk_and_a_kernel_to_start(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path, format: ContentFormat
) -> None:
    content = os.urandom(MI) + bytes(3 * MI) + os.urandom(5000)
    (tmp_path / "disk.raw").write_bytes(content)
    (tmp_path / "kernel").write_bytes(b"kernel")
    await published(
        registry,
        tmp_path,
        "machine",
        kernel="kernel",
        cmdline="console=ttyS0",
        root=Disk(file="disk.raw", chunk="1Mi"),
    )
    async with world.serving():
        await world.configure(registry.host)
        tree = await world.want_image(1, "apps/machine", format=format)
        await world.tree(tree)
        volume = await world.volume(await world.want_volume(1, tree))
    assert Path(volume.path).read_bytes() == content
    assert volume.format == ContentFormat.RAW
    assert volume.boot is not None
    assert Path(volume.boot.kernel).read_bytes() == b"kernel"
    assert volume.boot.cmdline == "console=ttyS0"


async def push_legacy(registry: DockerRegistry, where: Path, *, annotated: bool) -> None:
    """As `eci push --format legacy` makes it, or a Dockerfile with labels."""
    (where / "disk.raw").write_bytes(DISK)
    made = where / "disk.qcow2"
    command = [
        "qemu-img",
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        str(where / "disk.raw"),
        str(made),
    ]
    subprocess.run(command, check=True, capture_output=True)
    layers = []
    for name, content in (("kernel", b"kernel"), ("disk-root-a.qcow2", made.read_bytes())):
        files = where / f"files-{name}"
        files.mkdir()
        (files / name).write_bytes(content)
        layers.append((pack_layer(files, where / f"layer-{name}"), name))
    roles = {
        "kernel": (eci.KERNEL, "kernel"),
        "disk-root-a.qcow2": (eci.DISK + "qcow2", "disk-root"),
    }
    labels = {
        "org.lfedge.eci.artifact.kernel": "/kernel",
        "org.lfedge.eci.artifact.root": "/disk-root-a.qcow2",
    }
    here = oci.machine()
    config = oci.encode(
        oci.Config(
            architecture=here.architecture,
            os=here.os,
            variant=here.variant,
            config=oci.Process(labels=labels),
            rootfs=oci.RootFs(diff_ids=tuple(layer.diff_id for layer, _ in layers)),
        )
    )
    manifest = oci.encode(
        oci.Document(
            schema_version=2,
            media_type=oci.MANIFEST,
            config=oci.Descriptor(digest_of(config), len(config), oci.CONFIG),
            layers=tuple(
                oci.Descriptor(
                    layer.digest,
                    layer.size,
                    oci.LAYER_GZIP,
                    annotations={
                        eci.MEDIA_TYPE: roles[name][0],
                        eci.ROLE: roles[name][1],
                        eci.TITLE: name,
                    }
                    if annotated
                    else None,
                )
                for layer, name in layers
            ),
        )
    )
    pusher = Pusher(registry.host)
    try:
        await pusher.push(Image(config, manifest, tuple(layer for layer, _ in layers)), "apps/old")
    finally:
        await pusher.close()


@pytest.mark.parametrize("annotated", [True, False])
async def test_an_image_of_edge_containers_legacy_form_becomes_a_disk_and_a_kernel(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path, annotated: bool
) -> None:
    await push_legacy(registry, tmp_path, annotated=annotated)
    async with world.serving():
        await world.configure(registry.host)
        tree = await world.want_image(1, "apps/old", format=ContentFormat.QCOW2)
        volume = await world.volume(await world.want_volume(1, tree))
        assert volume.boot is not None
        assert Path(volume.boot.kernel).read_bytes() == b"kernel"
    assert volume.format == ContentFormat.QCOW2
    command = [
        "qemu-img",
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        volume.path,
        str(tmp_path / "back"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "back").read_bytes() == DISK


async def test_an_artifact_for_another_machine_is_refused(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    (tmp_path / "disk.raw").write_bytes(b"x" * 5000)
    await published(registry, tmp_path, "riscv", architecture="riscv64", root=Disk(file="disk.raw"))
    async with world.serving():
        await world.configure(registry.host)
        tree = await world.want_image(1, "apps/riscv", format=ContentFormat.RAW)
        await refused(world, tree, "cannot use an image for linux/riscv64")


async def test_what_lies_in_the_store_for_a_machine_stays_as_long_as_its_volume(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    (tmp_path / "kernel").write_bytes(b"kernel")
    await published(registry, tmp_path, "kernel", kernel="kernel")
    async with world.serving():
        await world.configure(registry.host)
        tree = await world.want_image(1, "apps/kernel")
        volume = await world.volume(await world.want_volume(1, tree))
        await world.store.delete(CONTENT_TREE, tree)
        await world.until(CONTENT_TREE_STATUS, tree, lambda tree: tree is None, hurry=5.0)
        (kernel,) = volume.blobs
        for _ in range(50):
            world.clock.jump(20)
            assert kernel in await world.claims()
        assert volume.boot is not None
        assert Path(volume.boot.kernel).read_bytes() == b"kernel"


# -- signatures -----------------------------------------------------------------------------------


async def push_app(registry: DockerRegistry, where: Path) -> None:
    pusher = Pusher(registry.host)
    try:
        await pusher.push(make_busybox_image(where / "image"), "apps/app:1")
    finally:
        await pusher.close()


async def want_signed(
    world: ContentWorld, *keys: ec.EllipticCurvePrivateKey, number: int = 1
) -> ContentTreeId:
    signers = tuple(cosign.public_pem(key) for key in keys)
    return await world.want_image(number, "apps/app:1", signers=signers)


async def test_only_what_is_signed_by_the_right_key_is_loaded(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    good, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    await push_app(registry, tmp_path)
    await sign(registry, "app:1", good)
    async with world.serving():
        await world.configure(registry.host)
        bad = await want_signed(world, other, number=1)
        failed = await refused(world, bad, "none of its signatures is by a key")
        assert set(failed.blobs) <= await world.claims()
        tree = await want_signed(world, other, good, number=2)
        loaded = await world.tree(tree)
        assert len(loaded.layers) == 2
        await refused(world, bad, "none of its signatures is by a key")


async def test_an_image_that_nobody_signed_waits_until_somebody_does(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    await push_app(registry, tmp_path)
    async with world.serving():
        await world.configure(registry.host)
        tree = await want_signed(world, key)
        failed = await refused(world, tree, "it is not signed, as it must be")
        assert failed.blobs == ()
        await sign(registry, "app:1", key)
        world.clock.jump(LOOK_AGAIN + 60)
        await world.until(
            CONTENT_TREE_STATUS,
            tree,
            lambda tree: tree is not None and tree.state == SwState.LOADED,
            hurry=1.0,
        )


async def test_a_signature_is_proven_again_after_a_restart_without_a_network(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    await push_app(registry, tmp_path)
    await sign(registry, "app:1", key)
    async with world.serving():
        await world.configure(registry.host)
        tree = await want_signed(world, key)
        await world.tree(tree)
    await world.restart()
    registry.process.kill()
    registry.process.wait()
    async with world.serving():
        await world.tree(tree)
