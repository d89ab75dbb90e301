"""Content on a node, with real parts: an image made here, Debian's registry, three services."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from edgevirt.host import mounts
from edgevirt.host.files import room
from edgevirt.image.eci.oci import Image, Layer, Pusher, make_image, pack_layer
from edgevirt.model.app import VolumeUse
from edgevirt.model.base import SwState
from edgevirt.model.content import (
    ContentFormat,
    ContentTreeStatus,
    Datastore,
    DatastoreType,
    ImageConfig,
)
from edgevirt.model.ids import AppId, Digest
from edgevirt.model.kinds import (
    BLOB_STATUS,
    CONTENT_TREE,
    CONTENT_TREE_STATUS,
    DATASTORE,
    VOLUME,
    VOLUME_STATUS,
    VOLUME_USE,
)
from edgevirt.node.paths import Paths
from edgevirt.wire import oci
from tests.parts.docker_registry import PASSWORD, USER, DockerRegistry, docker_registry
from tests.parts.rough_server import Request, answer, rough_server
from tests.worlds.content import PATIENCE, STORE, ContentWorld, make_busybox_image

pytestmark = [pytest.mark.root, pytest.mark.e2e]

LONG = 100.0
"""Seconds that end every grace but the one of leftovers."""


def make_world(where: Path) -> ContentWorld:
    (where / "persist").mkdir(parents=True, exist_ok=True)
    return ContentWorld(Paths(where / "config", where / "persist", where / "run"))


@pytest.fixture
def world(tmp_path: Path) -> ContentWorld:
    return make_world(tmp_path)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry", basic=True) as running:
        yield running


async def push(registry: DockerRegistry, image: Image, name: str) -> None:
    pusher = Pusher(registry.host, USER, PASSWORD)
    try:
        await pusher.push(image, name)
    finally:
        await pusher.close()


def run_on(layers: tuple[str, ...], volume: str, where: Path, script: str) -> str:
    """Runs a shell on the image's root file system, mounted as a domain would mount it."""
    written = where.with_name(f"{where.name}-written")
    for directory in (where, written):
        directory.mkdir(exist_ok=True)
    try:
        mounts.image(written, Path(volume), readonly=False)
        for name in ("upper", "work"):
            (written / name).mkdir(exist_ok=True)
        mounts.overlay(where, [*map(Path, layers)], written / "upper", written / "work")
        command = ["chroot", str(where), "/bin/sh", "-c", script]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout
    finally:
        mounts.unmount_below(where)
        mounts.unmount_below(written)


async def troubled(world: ContentWorld, tree: str) -> ContentTreeStatus:
    found = await world.until(
        CONTENT_TREE_STATUS, tree, lambda tree: tree is not None and tree.trouble is not None
    )
    assert found is not None
    return found


# -- what should be -----------------------------------------------------------------------------


async def test_an_image_becomes_a_volume_that_its_program_runs_on(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    await push(registry, make_busybox_image(tmp_path / "image"), "apps/hello:1")
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "apps/hello:1")
        made = await world.volume(await world.want_volume(1, tree))
        loaded = await world.tree(tree)
    assert (loaded.progress, made.format) == (100, ContentFormat.CONTAINER)
    assert made.image == ImageConfig(
        entrypoint=("/bin/sh", "-c"), cmd=("cat /etc/issue",), env=("A=1",)
    )
    said = run_on(made.layers, made.path, tmp_path / "m", "/bin/busybox cat /etc/*")
    assert said == "edge"
    run_on(made.layers, made.path, tmp_path / "m", "echo new > /etc/made")
    again = run_on(made.layers, made.path, tmp_path / "m", "/bin/busybox cat /etc/made")
    assert again == "new\n"


async def test_each_machine_gets_its_own_image_of_an_index(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    here = make_busybox_image(tmp_path / "image")
    there = oci.Platform("s390x", "linux")
    other = make_image(here.layers, ImageConfig(), there)
    pusher = Pusher(registry.host, USER, PASSWORD)
    index = await pusher.push_index([(other, there), (here, oci.machine())], "apps/many:1")
    await pusher.close()
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        loaded = await world.tree(await world.want_image(1, "apps/many:1"))
    assert loaded.digest == index
    assert here.digest in loaded.blobs
    assert other.digest not in loaded.blobs
    assert loaded.image is not None
    assert loaded.image.entrypoint == ("/bin/sh", "-c")


async def test_a_disk_image_over_http_becomes_a_disk(world: ContentWorld, tmp_path: Path) -> None:
    disk = os.urandom(300_000)

    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        answer(writer, 200 if request.path == "/images/disk.raw" else 404, disk)

    async with rough_server(serve) as server, world.serving():
        await world.configure("unused")
        store = Datastore(id=STORE, type=DatastoreType.HTTP, fqdn=server.url, dpath="images")
        await world.store.put(DATASTORE, STORE, store)
        sha256 = hashlib.sha256(disk).hexdigest()
        fields = {"format": ContentFormat.RAW, "sha256": sha256, "max_size": 300_000}
        tree = await world.want_image(1, "disk.raw", **fields)
        made = await world.volume(await world.want_volume(1, tree, size=1 << 20))
    content = Path(made.path).read_bytes()
    assert (content[:300_000], len(content)) == (disk, 1 << 20)


async def test_a_disk_image_in_a_registry_becomes_a_disk_of_its_own(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    made_here = make_qcow2(tmp_path / "disk.qcow2", b"edge", size=1 << 20)
    await push(registry, make_image([file_layer(made_here)], ImageConfig()), "disks/one:1")
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "disks/one:1", format=ContentFormat.QCOW2)
        made = await world.volume(await world.want_volume(1, tree, size=2 << 20))
    assert made.format == ContentFormat.QCOW2
    assert made.max_size == 2 << 20
    raw = tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", made.path, "-O", "raw", raw], check=True)
    content = raw.read_bytes()
    assert (content[:4], len(content)) == (b"edge", 2 << 20)


async def test_a_disk_image_that_names_a_file_of_the_node_is_refused(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    backed = tmp_path / "backed.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow"]
    subprocess.run([*command, backed, "1M"], check=True)
    await push(registry, make_image([file_layer(backed)], ImageConfig()), "disks/evil:1")
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "disks/evil:1", format=ContentFormat.QCOW2)
        key = await world.want_volume(1, tree)
        failed = await world.until(
            VOLUME_STATUS, key, lambda volume: volume is not None and volume.trouble is not None
        )
    assert failed is not None
    assert failed.trouble is not None
    assert failed.state == SwState.FAILED
    assert failed.trouble.why.endswith("its disk image is refused: it names a backing file")


def file_layer(path: Path) -> Layer:
    """A disk as the one layer of an artifact."""
    digest = Digest(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    return Layer(path, digest, digest, path.stat().st_size)


def make_qcow2(path: Path, content: bytes, *, size: int) -> Path:
    raw = path.with_suffix(".content")
    raw.write_bytes(content)
    os.truncate(raw, size)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    return path


async def test_blobs_that_images_share_are_kept_once_and_until_the_last_one_goes(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    first = make_busybox_image(tmp_path / "image")
    second = make_image(first.layers[:1], ImageConfig(cmd=("/bin/sh",)))
    await push(registry, first, "apps/first:1")
    await push(registry, second, "apps/second:1")
    shared, own = first.layers[0].digest, first.layers[1].digest
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        one = await world.want_image(1, "apps/first:1")
        two = await world.want_image(2, "apps/second:1")
        await world.tree(one)
        assert (await world.tree(two)).layers == (await world.tree(one)).layers[:1]
        await world.store.delete(CONTENT_TREE, one)
        await world.gone(BLOB_STATUS, own)
        assert (await world.tree(two)).state == SwState.LOADED
        assert shared in await world.claims()
        await world.store.delete(CONTENT_TREE, two)
        await world.gone(BLOB_STATUS, shared)
        assert await world.claims() == set()
        await world.until_true(lambda: left_in(world.paths.vault) == set(), hurry=5.0)


def left_in(vault: Path) -> set[str]:
    """Names of what blobs, layers and volumes are still on the disk."""
    return {
        f"{directory.name}/{path.name}"
        for directory in vault.iterdir()
        for path in directory.iterdir()
        if path.name != ".session"
    }


async def test_a_purge_makes_new_disks_while_the_app_still_runs_on_the_old(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    await push(registry, make_busybox_image(tmp_path / "image"), "apps/hello:1")
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "apps/hello:1")
        old = await world.want_volume(1, tree)
        made = await world.volume(old)
        await world.store.put(VOLUME_USE, old, VolumeUse(apps=(AppId("a"),)))
        run_on(made.layers, made.path, tmp_path / "m", "echo old > /data")
        await world.store.delete(VOLUME, old)
        newer = await world.volume(await world.want_volume(1, tree, generation=1))
        world.clock.jump(LONG)
        assert run_on(newer.layers, newer.path, tmp_path / "m", "echo /d*") == "/d*\n"
        assert run_on(made.layers, made.path, tmp_path / "m", "read x </data; echo $x") == "old\n"
        await world.store.delete(VOLUME_USE, old)
        await world.gone(VOLUME_STATUS, old)
    assert not Path(made.path).exists()
    assert Path(newer.path).exists()


# -- what goes wrong ----------------------------------------------------------------------------


async def test_wrong_credentials_are_told_and_right_ones_taken_at_once(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    await push(registry, make_busybox_image(tmp_path / "image"), "hello:1")
    async with world.serving():
        await world.configure(registry.host, USER, "wrong")
        tree = await world.want_image(1, "hello:1")
        told = await troubled(world, tree)
        assert told.trouble is not None
        assert "registry answered 401" in told.trouble.why
        assert "wrong" not in told.trouble.why
        await world.configure(registry.host, USER, PASSWORD)
        assert (await world.tree(tree)).trouble is None


async def test_a_registry_that_is_down_is_waited_for(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    await push(registry, make_busybox_image(tmp_path / "image"), "hello:1")
    registry.process.kill()
    registry.process.wait()
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "hello:1")
        assert "connect" in str((await troubled(world, tree)).trouble)
        port = int(registry.host.rpartition(":")[2])
        with docker_registry(tmp_path / "registry", basic=True, port=port):
            world.clock.jump(LONG)
            await world.tree(tree)


async def test_content_of_another_digest_is_never_loaded(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    image = make_busybox_image(tmp_path / "image")
    await push(registry, image, "hello:1")
    name = oci.hex_of(image.layers[1].digest)
    (stored,) = registry.storage.rglob(f"{name}/data")
    stored.write_bytes(bytes(len(stored.read_bytes())))
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "hello:1")
        volume = await world.want_volume(1, tree)
        failed = await world.tree(tree, SwState.FAILED)
        assert "its bytes were wrong, 5 retries included" in str(failed.trouble)
        await world.volume(volume, SwState.FAILED)
    assert not (world.paths.blobs / name).exists()
    assert not (world.paths.layers / name).exists()


async def test_a_download_goes_on_after_its_process_was_killed(tmp_path: Path) -> None:
    blob = os.urandom(8 << 20)
    digest = hashlib.sha256(blob).hexdigest()
    half = asyncio.Event()

    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        given = request.headers.get("range")
        begin = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        if not begin:
            answer(writer, 200, blob[: 4 << 20], content_length=str(len(blob)))
            await writer.drain()
            half.set()
            await asyncio.sleep(3600)
        extent = f"bytes {begin}-{len(blob) - 1}/{len(blob)}"
        answer(writer, 206, blob[begin:], content_range=extent)

    downloads = Paths(tmp_path / "config", tmp_path, tmp_path / "run").downloads
    downloads.mkdir(parents=True)
    part, whole = downloads / f"{digest}.part", downloads / digest
    async with rough_server(serve) as server:
        ends: tuple[Callable[[], bool], ...] = (lambda: size_of(part) >= 3 << 20, whole.exists)
        for ended in ends:
            runner = Path(__file__).with_name("run_download.py")
            command = [sys.executable, runner, server.url, f"sha256:{digest}", tmp_path]
            process = await asyncio.create_subprocess_exec(*map(str, command))
            try:
                async with asyncio.timeout(PATIENCE):
                    while not ended():
                        await asyncio.sleep(0.01)
            finally:
                process.kill()
                await process.wait()
        first, second = server.requests
    assert half.is_set()
    assert "range" not in first.headers
    assert int(second.headers["range"].removeprefix("bytes=").rstrip("-")) >= 3 << 20
    assert whole.read_bytes() == blob


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def test_an_app_starts_from_the_disk_alone_when_the_network_is_gone(
    world: ContentWorld, registry: DockerRegistry, tmp_path: Path
) -> None:
    await push(registry, make_busybox_image(tmp_path / "image"), "apps/hello:1")
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "apps/hello:1")
        volume = await world.want_volume(1, tree)
        before = await world.volume(volume)
        run_on(before.layers, before.path, tmp_path / "m", "echo kept > /data")
    await world.restart()
    registry.process.kill()
    async with world.serving():
        after = await world.volume(volume)
        assert (await world.tree(tree)).trouble is None
    assert (after.path, after.layers) == (before.path, before.layers)
    assert run_on(after.layers, after.path, tmp_path / "m", "read x </data; echo $x") == "kept\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    disk, mounted = tmp_path / "disk", tmp_path / "small"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", disk], check=True)
    mounted.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


async def test_a_full_disk_is_told_and_the_rest_is_fetched_when_there_is_room(
    small_disk: Path, registry: DockerRegistry, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/big").write_bytes(os.urandom(12 << 20))
    image = make_image([pack_layer(tmp_path / "root", tmp_path / "layer")], ImageConfig())
    await push(registry, image, "apps/big:1")
    world = make_world(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(max(0, room(small_disk).free - (4 << 20))))
    async with world.serving():
        await world.configure(registry.host, USER, PASSWORD)
        tree = await world.want_image(1, "apps/big:1")
        told = await troubled(world, tree)
        assert "bytes needed" in str(told.trouble)
        assert told.state == SwState.DOWNLOADING
        filler.unlink()
        world.clock.jump(LONG)
        await world.tree(tree)
