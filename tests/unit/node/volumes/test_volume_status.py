"""Volumes are made when they can be, kept over restarts, and let go only when nobody needs them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgevirt.host.files import room
from edgevirt.model.app import VolumeUse
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import (
    BlobStatus,
    ContentFormat,
    ImageConfig,
)
from edgevirt.model.eci import Boot, Declared, Part, PartKind, TreePart, Wants
from edgevirt.model.ids import AppId, Digest, VolumeId
from edgevirt.model.kinds import (
    BLOB_STATUS,
    CONTENT_TREE_STATUS,
    PROPERTY,
    VOLUME,
    VOLUME_STATUS,
    VOLUME_USE,
)
from edgevirt.model.node import Property
from edgevirt.model.volume import Volume, VolumeOrigin
from edgevirt.node.volumes.telling import RETRY
from edgevirt.node.volumes.volume_status import GRACE
from tests.worlds.volumes import KEY, MIB, TREE, World

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(("wanted", "size"), [(0, 1 << 30), (MIB, 64 * MIB), (2 << 30, 2 << 30)])
async def test_what_is_written_over_an_image_is_bounded(
    world: World, wanted: int, size: int
) -> None:
    async with world.running():
        await world.load()
        await world.want(max_size=wanted)
        made = await world.made()
    assert made.format == ContentFormat.CONTAINER
    assert made.layers == (str(world.layers / ("a" * 64)),)
    assert made.image == ImageConfig(cmd=("/run",))
    assert made.max_size == Path(made.path).stat().st_size == size
    subprocess.run(["e2fsck", "-fn", made.path], check=True, capture_output=True)


async def test_a_blank_volume_is_a_sparse_ext4_disk_of_its_size(world: World) -> None:
    async with world.running():
        await world.want(origin=VolumeOrigin.BLANK, content_tree=None, max_size=64 * MIB)
        made = await world.made()
    disk = Path(made.path).stat()
    assert disk.st_size == 64 * MIB
    assert disk.st_blocks * 512 <= made.size < 16 * MIB, "what it takes is told"
    assert disk.st_mode & 0o777 == 0o600
    subprocess.run(["e2fsck", "-fn", made.path], check=True, capture_output=True)


async def test_a_disk_image_becomes_a_copy_as_big_as_the_volume(world: World) -> None:
    blob = world.persist / "blob"
    blob.write_bytes(b"disk" * 1000)
    async with world.running():
        await world.load(path=str(blob), size=4000)
        await world.want(max_size=MIB)
        made = await world.made()
    copied = Path(made.path).read_bytes()
    assert copied[:4000] == blob.read_bytes()
    assert len(copied) == MIB
    assert made.format == ContentFormat.RAW


async def test_a_volume_tells_how_far_its_content_is(world: World) -> None:
    trouble = Trouble(why="cannot fetch", since=1.0)
    async with world.running():
        await world.want()
        await world.reached(SwState.INITIAL)
        await world.load(state=SwState.DOWNLOADING, progress=40, trouble=trouble)
        waiting = await world.reached(SwState.DOWNLOADING)
    assert (waiting.progress, waiting.trouble) == (40, trouble)
    assert waiting.format == ContentFormat.CONTAINER, "as the config has it"


async def test_a_volume_is_not_made_from_what_its_tree_was_before(world: World) -> None:
    """Its config names new content under the same id; word of the old one is still there."""
    async with world.running():
        await world.load(content="the old one@")
        await world.want()
        await world.reached(SwState.INITIAL)
        await world.load()
        await world.made()


async def test_nor_from_a_tree_whose_own_config_is_older(world: World) -> None:
    async with world.running():
        await world.load()
        await world.want(content="another@")
        await world.reached(SwState.INITIAL)
        await world.want(content="u@")
        await world.made()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"origin": VolumeOrigin.BLANK, "content_tree": None}, "a blank volume needs a size"),
        ({"origin": VolumeOrigin.UNKNOWN}, "it comes from nowhere"),
        ({"content_tree": None}, "it comes from nowhere"),
    ],
)
async def test_a_volume_that_cannot_be_made_says_why(
    world: World, fields: dict[str, Any], why: str
) -> None:
    async with world.running():
        await world.want(**fields)
        assert why in (await world.troubled()).why


async def test_a_volume_that_mkfs_refuses_is_told_and_tried_again(world: World) -> None:
    async with world.running():
        await world.want(origin=VolumeOrigin.BLANK, content_tree=None, max_size=1000)
        assert "cannot run mkfs.ext4" in (await world.troubled()).why
        assert list(world.directory.glob("[!.]*")) == []


# -- space --


async def test_volumes_are_promised_no_more_than_the_disk_has(world: World) -> None:
    free = room(world.persist).free
    other = VolumeId("b0000000-0000-0000-0000-000000000002")
    async with world.running():
        first = await world.want(
            origin=VolumeOrigin.BLANK, content_tree=None, max_size=free * 2 // 3 // MIB * MIB
        )
        await world.made(first)
        second = Volume(id=other, origin=VolumeOrigin.BLANK, max_size=free * 2 // 3 // MIB * MIB)
        await world.store.put(VOLUME, second.key, second)
        trouble = await world.troubled(second.key)
        assert f"volume needs {second.max_size}" in trouble.why
        assert "Remaining disk space " in trouble.why
        await world.reached(SwState.INITIAL, second.key)
        await world.store.delete(VOLUME, first)
        await world.clock.advance(GRACE + 1)
        await world.gone_in_time(first)
        await world.clock.advance(RETRY + 1)
        await world.made(second.key)


async def test_volumes_made_before_a_restart_count(world: World) -> None:
    free = room(world.persist).free
    async with world.running():
        first = await world.want(
            origin=VolumeOrigin.BLANK, content_tree=None, max_size=free * 2 // 3 // MIB * MIB
        )
        await world.made(first)
    second = await world.want(
        origin=VolumeOrigin.BLANK, content_tree=None, max_size=free * 2 // 3, generation=1
    )
    async with world.running():
        assert "Remaining disk space " in (await world.troubled(second)).why


async def test_the_disk_check_can_be_switched_off(world: World) -> None:
    await world.store.put(PROPERTY, "storage.apps.ignore.disk.check", Property(value="true"))
    async with world.running():
        await world.load()
        await world.want(max_size=shutil.disk_usage(world.persist).free + (1 << 30))
        await world.made()


# -- restarts --


async def test_a_volume_outlives_restarts_without_its_content_tree(world: World) -> None:
    async with world.running():
        await world.load()
        await world.want()
        before = await world.made()
        kept = Path(before.path).stat().st_ino
    await world.store.delete(CONTENT_TREE_STATUS, TREE)
    async with world.running():
        after = await world.made()
    assert structs.replace(after, since=0) == structs.replace(before, since=0)
    assert Path(after.path).stat().st_ino == kept


async def test_a_volume_waits_for_the_layers_below_it(world: World) -> None:
    async with world.running():
        await world.load()
        await world.want()
        await world.made()
    await world.layer(SwState.VERIFYING)
    async with world.running():
        waiting = await world.reached(SwState.LOADING)
        assert waiting.layers
        await world.layer()
        await world.made()


async def test_what_a_crash_left_half_made_is_cleared(world: World) -> None:
    world.directory.mkdir()
    (world.directory / f".{KEY}.part").mkdir()
    (world.directory / KEY).mkdir()  # without a record
    (world.directory / "x.json").write_text("{}")
    async with world.running():
        assert list(world.directory.iterdir()) == []


# -- letting go --


async def test_a_volume_goes_when_the_config_stops_naming_it(world: World) -> None:
    async with world.running():
        await world.load()
        await world.want()
        await world.made()
        await world.store.delete(VOLUME, KEY)
        await world.clock.advance(GRACE - 1)
        assert (await world.made()).layers
        await world.clock.advance(2)
        await world.gone_in_time()
    assert list(world.directory.iterdir()) == []


async def test_a_volume_that_comes_back_in_time_keeps_what_is_on_it(world: World) -> None:
    async with world.running():
        await world.load()
        await world.want()
        made = await world.made()
        kept = Path(made.path).stat().st_ino
        await world.store.delete(VOLUME, KEY)
        await world.clock.advance(GRACE - 1)
        await world.want()
        await world.clock.advance(10 * GRACE)
        await world.made()
    assert Path(made.path).stat().st_ino == kept


async def test_a_volume_in_use_stays_though_a_newer_generation_is_made(world: World) -> None:
    async with world.running():
        await world.load()
        await world.want()
        await world.made()
        await world.store.put(VOLUME_USE, KEY, VolumeUse(apps=(AppId("a"),)))
        await world.store.delete(VOLUME, KEY)
        newer = await world.want(generation=1)
        await world.made(newer)
        await world.clock.advance(10 * GRACE)
        assert (await world.made()).state == SwState.CREATED_VOLUME
        await world.store.delete(VOLUME_USE, KEY)
        await world.clock.advance(GRACE + 1)
        await world.gone_in_time()
        assert (await world.made(newer)).generation == 1


async def test_no_volume_goes_before_a_config_is_known(world: World) -> None:
    async with world.running():
        await world.load()
        await world.want()
        await world.made()
    await world.store.delete(VOLUME, KEY)
    async with world.running(known=False):
        kept = await world.made()
        assert kept.layers
        await world.clock.advance(100_000)
        await world.made()
        await world.config(known=True)
        await world.clock.advance(3599)
        await world.made()
        await world.clock.advance(2)
        await world.gone_in_time()


async def test_a_volume_that_was_never_made_goes_at_once(world: World) -> None:
    async with world.running():
        await world.want()
        await world.reached(SwState.INITIAL)
        await world.store.delete(VOLUME, KEY)
        await world.gone()


async def test_a_name_that_is_no_volume_s_touches_nothing(world: World) -> None:
    async with world.running():
        evil = "../evil#0"
        volume = Volume(id=VolumeId("../evil"), origin=VolumeOrigin.BLANK, max_size=MIB)
        await world.store.put(VOLUME, evil, volume)
        await world.clock.advance(RETRY)
        assert not (world.persist / "evil#0").exists()
        assert await world.store.get(VOLUME_STATUS, evil) is None


# -- Edge Container Images ------------------------------------------------------------------------


async def stored(world: World, letter: str, content: bytes) -> Digest:
    """A proven blob."""
    digest = Digest("sha256:" + letter * 64)
    blobs = world.persist / "blobs"
    blobs.mkdir(exist_ok=True)
    (blobs / (letter * 64)).write_bytes(content)
    await world.store.put(
        BLOB_STATUS, digest, BlobStatus(digest=digest, state=SwState.LOADED, size=len(content))
    )
    return digest


def placed(world: World, digest: Digest, kind: PartKind, **fields: Any) -> TreePart:
    path = world.persist / "blobs" / digest.removeprefix("sha256:")
    return TreePart(part=Part(kind=kind, **fields), digest=digest, path=str(path))


async def test_a_machine_of_a_kernel_and_disks_is_a_volume_that_names_them(world: World) -> None:
    kernel, initrd, extra = [
        await stored(world, letter, letter.encode() * 5) for letter in ("b", "c", "d")
    ]
    parts = (
        placed(world, kernel, PartKind.KERNEL),
        placed(world, initrd, PartKind.INITRD),
        placed(world, extra, PartKind.DISK, format=ContentFormat.ISO),
    )
    wants = Wants(cpus=2, memory=MIB)
    async with world.running():
        await world.load(
            parts=parts,
            layers=(),
            image=None,
            declared=Declared(cmdline="console=ttyS0", wants=wants),
        )
        await world.want()
        made = await world.made()
    blobs = world.persist / "blobs"
    assert made.boot == Boot(
        kernel=str(blobs / ("b" * 64)), initrd=str(blobs / ("c" * 64)), cmdline="console=ttyS0"
    )
    assert [(disk.path, disk.format) for disk in made.disks] == [
        (str(blobs / ("d" * 64)), ContentFormat.ISO)
    ]
    assert (made.format, made.path, made.layers) == (ContentFormat.UNKNOWN, "", ())
    assert made.wants == wants
    assert made.blobs == (kernel, initrd, extra)


async def test_a_disk_of_pieces_is_put_together_and_is_as_big_as_it_says(world: World) -> None:
    one, two = [await stored(world, letter, letter.encode() * 4096) for letter in ("b", "c")]
    parts = tuple(
        placed(world, digest, PartKind.PIECE, format=ContentFormat.RAW, offset=offset)
        for digest, offset in ((one, 0), (two, MIB), (one, 2 * MIB))
    )
    async with world.running():
        await world.load(
            parts=parts, layers=(), image=None, format=ContentFormat.RAW, disk_size=4 * MIB
        )
        await world.want()
        made = await world.made()
    disk = Path(made.path).read_bytes()
    assert len(disk) == 4 * MIB
    assert disk[:4096] == disk[2 * MIB : 2 * MIB + 4096] == b"b" * 4096
    assert disk[MIB : MIB + 4096] == b"c" * 4096
    assert disk.count(0) == 4 * MIB - 3 * 4096
    assert Path(made.path).stat().st_mode & 0o777 == 0o600
    assert (made.format, made.blobs, made.boot) == (ContentFormat.RAW, (), None)


async def test_a_disk_that_is_not_what_it_is_called_is_refused_for_good(world: World) -> None:
    backed = struct.pack(">4sIQ", b"QFI\xfb", 3, 112).ljust(200, b"\0") + b"/etc/shadow"
    disk = await stored(world, "b", backed)
    part = placed(world, disk, PartKind.ROOT, format=ContentFormat.QCOW2)
    async with world.running():
        await world.load(
            parts=(part,), path=part.path, layers=(), image=None, format=ContentFormat.QCOW2
        )
        await world.want()
        failed = await world.reached(SwState.FAILED)
    assert failed.trouble is not None
    assert failed.trouble.why.endswith("its disk image is refused: it names a backing file")


async def test_a_root_disk_of_an_artifact_becomes_one_of_our_own(world: World) -> None:
    path = world.persist / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    disk = await stored(world, "b", path.read_bytes())
    part = placed(world, disk, PartKind.ROOT, format=ContentFormat.QCOW2)
    async with world.running():
        await world.load(
            parts=(part,), path=part.path, layers=(), image=None, format=ContentFormat.QCOW2
        )
        await world.want(max_size=2 * MIB)
        made = await world.made()
    assert (made.format, made.max_size) == (ContentFormat.QCOW2, 2 * MIB)
    assert struct.unpack_from(">Q", Path(made.path).read_bytes(), 24)[0] == 2 * MIB


@pytest.mark.parametrize(
    ("format", "why"),
    [
        (ContentFormat.VMDK, "its disk 0 is a VMDK; further disks are RAW, ISO or QCOW2"),
        (ContentFormat.QCOW2, "its disk image is refused: it names a backing file"),
    ],
)
async def test_a_further_disk_that_no_hypervisor_should_open_is_refused(
    world: World, format: ContentFormat, why: str
) -> None:
    backed = struct.pack(">4sIQ", b"QFI\xfb", 3, 112).ljust(200, b"\0") + b"/etc/shadow"
    kernel, disk = await stored(world, "b", b"kernel"), await stored(world, "c", backed)
    parts = (
        placed(world, kernel, PartKind.KERNEL),
        placed(world, disk, PartKind.DISK, format=format),
    )
    async with world.running():
        await world.load(parts=parts, layers=(), image=None)
        await world.want()
        failed = await world.reached(SwState.FAILED)
    assert failed.trouble is not None
    assert failed.trouble.why.endswith(why)


async def test_a_machine_outlives_restarts_and_waits_for_its_kernel(world: World) -> None:
    kernel = await stored(world, "b", b"kernel")
    part = placed(world, kernel, PartKind.KERNEL)
    async with world.running():
        await world.load(parts=(part,), layers=(), image=None)
        await world.want()
        made = await world.made()
    await world.store.delete(CONTENT_TREE_STATUS, TREE)
    await world.store.delete(VOLUME_STATUS, KEY)
    gone = BlobStatus(digest=kernel, state=SwState.VERIFYING)
    await world.store.put(BLOB_STATUS, kernel, gone)
    async with world.running():
        assert (await world.reached(SwState.LOADING)).boot == made.boot
        await stored(world, "b", b"kernel")
        assert (await world.made()).boot == made.boot
