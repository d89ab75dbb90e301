"""Claims become proven blobs that are ready for use, or say why not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs

from edgevirt.host.content.store import ContentStore
from edgevirt.image.eci.oci import Image, make_image, pack_layer
from edgevirt.model.base import SwState
from edgevirt.model.content import BlobClaim, BlobRole, BlobStatus, ImageConfig
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_CLAIM, BLOB_STATUS
from edgevirt.node.verifier.claims import LOOK_AGAIN, ClaimReconciler
from edgevirt.runtime import Event, Put, VirtualClock
from edgevirt.runtime import engine as runtime_engine
from edgevirt.runtime.memory import MemoryStore
from edgevirt.wire import cosign, oci

pytestmark = pytest.mark.root


class World:
    def __init__(self, where: Path) -> None:
        self.where = where
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.content = ContentStore(
            where / "blobs", where / "layers", where / "downloads", "boot-1"
        )
        self.system = ContentStore(
            where / "system/blobs", where / "system/layers", where / "downloads", "boot-1"
        )
        (where / "downloads").mkdir()

    @asynccontextmanager
    async def running(self, *, vault_open: bool = True) -> AsyncIterator[None]:
        self.content.begin()
        self.system.begin()
        content = self.content if vault_open else None
        claims = ClaimReconciler(content, oci.Platform("amd64", "linux"), self.system)
        serving = asyncio.create_task(runtime_engine.run(self.store, self.clock, [claims]))
        try:
            yield
        finally:
            claims.stop()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    def download(self, data: bytes, name: str = "") -> Digest:
        name = name or hashlib.sha256(data).hexdigest()
        path = self.where / "downloads" / name
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        return Digest(f"sha256:{name}")

    async def claim(self, digest: Digest, role: BlobRole, **fields: Any) -> None:
        await self.store.put(BLOB_CLAIM, digest, BlobClaim(digest=digest, role=role, **fields))

    async def until(
        self, digest: Digest, good: Callable[[BlobStatus | None], bool]
    ) -> BlobStatus | None:
        found: BlobStatus | None = None
        for _ in range(10_000):
            await self.clock.settle()
            item = await self.store.get(BLOB_STATUS, digest)
            found = None if item is None else item.value
            if good(found):
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"the blob stayed {found}")

    async def reached(self, digest: Digest, state: SwState) -> BlobStatus:
        found = await self.until(digest, lambda blob: blob is not None and blob.state == state)
        assert found is not None
        return found

    def image(self, here: oci.Platform | None = None) -> Image:
        root = self.where / "root"
        (root / "etc").mkdir(parents=True)
        (root / "etc/motd").write_text("hello")
        layer = pack_layer(root, self.where / "layer")
        config = ImageConfig(cmd=("/run",), env=("A=1",), user="app", workdir="/srv")
        return make_image([layer], config, here or oci.Platform("amd64", "linux"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_file_is_loaded_when_it_is_proven(world: World) -> None:
    digest = world.download(b"disk")
    async with world.running():
        await world.claim(digest, BlobRole.FILE)
        loaded = await world.reached(digest, SwState.LOADED)
    assert (loaded.size, Path(loaded.path).read_bytes()) == (4, b"disk")


async def test_an_operating_system_s_image_is_proven_while_the_vault_is_closed(
    world: World,
) -> None:
    digest, others = world.download(b"root image"), world.download(b"an app's disk")
    async with world.running(vault_open=False):
        await world.claim(others, BlobRole.FILE)
        await world.claim(digest, BlobRole.FILE, system=True)
        loaded = await world.reached(digest, SwState.LOADED)
        assert Path(loaded.path) == world.system.blob(digest)
        assert await world.store.get(BLOB_STATUS, others) is None
    async with world.running():
        await world.reached(others, SwState.LOADED)


async def test_a_manifest_tells_its_children_and_a_config_how_to_run(world: World) -> None:
    image = world.image()
    layer = image.layers[0]
    manifest, config = world.download(image.manifest), world.download(image.config)
    async with world.running():
        await world.claim(manifest, BlobRole.MANIFEST)
        await world.claim(config, BlobRole.CONFIG)
        children = (await world.reached(manifest, SwState.LOADED)).children
        read = await world.reached(config, SwState.LOADED)
    assert [(child.role, child.digest) for child in children] == [
        (BlobRole.CONFIG, config),
        (BlobRole.LAYER, layer.digest),
    ]
    assert read.diff_ids == (layer.diff_id,)
    assert read.image == ImageConfig(cmd=("/run",), env=("A=1",), user="app", workdir="/srv")


async def test_a_layer_is_loaded_when_it_is_unpacked(world: World) -> None:
    layer = world.image().layers[0]
    digest = world.download(layer.path.read_bytes())
    async with world.running():
        await world.claim(digest, BlobRole.LAYER, diff_id=layer.diff_id)
        loaded = await world.reached(digest, SwState.LOADED)
    assert (Path(loaded.path) / "etc/motd").read_text() == "hello"
    assert (loaded.size, loaded.unpacked) == (layer.size, 5)


async def test_an_image_of_another_machine_is_refused(world: World) -> None:
    digest = world.download(world.image(oci.Platform("arm64", "linux", "v8")).config)
    async with world.running():
        await world.claim(digest, BlobRole.CONFIG)
        failed = await world.reached(digest, SwState.FAILED)
    assert failed.trouble is not None
    assert "an image for linux/arm64/v8: this machine is linux/amd64" in failed.trouble.why
    assert not failed.wrong


@pytest.mark.parametrize("role", [BlobRole.MANIFEST, BlobRole.CONFIG, BlobRole.LAYER])
async def test_a_blob_that_is_not_what_it_is_claimed_as_fails_for_good(
    world: World, role: BlobRole
) -> None:
    digest = world.download(b"neither a document nor a tar")
    async with world.running():
        await world.claim(digest, role)
        failed = await world.reached(digest, SwState.FAILED)
    assert failed.trouble is not None
    assert failed.trouble.why.startswith(("cannot use", "cannot unpack"))
    assert not failed.wrong


async def test_a_layer_of_another_content_than_its_image_says_fails(world: World) -> None:
    digest = world.download(world.image().layers[0].path.read_bytes())
    async with world.running():
        await world.claim(digest, BlobRole.LAYER, diff_id=Digest("sha256:" + "0" * 64))
        failed = await world.reached(digest, SwState.FAILED)
    assert "its image says" in str(failed.trouble)


async def test_a_layer_beyond_its_bound_fails(world: World) -> None:
    digest = world.download(world.image().layers[0].path.read_bytes())
    async with world.running():
        await world.claim(digest, BlobRole.LAYER, max_unpacked=100)
        failed = await world.reached(digest, SwState.FAILED)
    assert "more than 100 bytes" in str(failed.trouble)


async def test_wrong_bytes_ask_for_another_download_and_the_next_is_judged_anew(
    world: World,
) -> None:
    name = hashlib.sha256(b"right").hexdigest()
    digest = world.download(b"wrong", name)
    async with world.running():
        await world.claim(digest, BlobRole.FILE)
        wrong = await world.reached(digest, SwState.FAILED)
        assert (wrong.wrong, wrong.attempt) == (True, 0)
        world.download(b"right", name)
        await world.claim(digest, BlobRole.FILE, attempt=1)
        assert (await world.reached(digest, SwState.LOADED)).attempt == 1


async def test_a_download_that_is_not_there_is_told_and_waited_for(world: World) -> None:
    digest = Digest(f"sha256:{hashlib.sha256(b'late').hexdigest()}")
    async with world.running():
        await world.claim(digest, BlobRole.FILE)
        await world.reached(digest, SwState.INITIAL)
        world.download(b"late")
        await world.clock.advance(LOOK_AGAIN + 1)
        await world.reached(digest, SwState.LOADED)


async def test_news_that_do_not_concern_the_blob_do_not_judge_it_again(world: World) -> None:
    digest = world.download(b"disk")
    async with world.running():
        await world.claim(digest, BlobRole.FILE)
        loaded = await world.reached(digest, SwState.LOADED)
        world.content.blob(digest).unlink()
        claim = await world.store.get(BLOB_CLAIM, digest)
        assert claim is not None
        await world.store.put(
            BLOB_CLAIM, digest, structs.replace(claim.value, unused_since=5.0, tags=())
        )
        await world.clock.advance(10)
        assert await world.reached(digest, SwState.LOADED) == loaded


async def test_a_claim_that_goes_takes_the_blob_and_its_layer_along(world: World) -> None:
    digest = world.download(world.image().layers[0].path.read_bytes())
    async with world.running():
        await world.claim(digest, BlobRole.LAYER)
        await world.reached(digest, SwState.LOADED)
        await world.store.delete(BLOB_CLAIM, digest)
        await world.until(digest, lambda blob: blob is None)
    assert world.content.existing() == set()


async def test_what_nobody_claims_at_start_goes(world: World) -> None:
    digest = world.download(b"disk")
    async with world.running():
        await world.claim(digest, BlobRole.FILE)
        await world.reached(digest, SwState.LOADED)
    await world.store.delete(BLOB_CLAIM, digest)
    async with world.running():
        await world.until(digest, lambda blob: blob is None)
        assert world.content.existing() == set()


async def test_a_restart_loads_what_is_there_without_a_download(world: World) -> None:
    layer = world.image().layers[0]
    digest = world.download(layer.path.read_bytes())
    async with world.running():
        await world.claim(digest, BlobRole.LAYER)
        before = await world.reached(digest, SwState.LOADED)
    (world.where / "downloads" / oci.hex_of(digest)).unlink()
    await world.store.delete(BLOB_STATUS, digest)
    async with world.running():
        assert await world.reached(digest, SwState.LOADED) == before


async def test_apps_hear_nothing_when_the_verifier_starts_anew_and_all_is_well(
    world: World,
) -> None:
    layer = world.image().layers[0]
    digest = world.download(layer.path.read_bytes())
    async with world.running():
        await world.claim(digest, BlobRole.LAYER)
        loaded = await world.reached(digest, SwState.LOADED)
    told: list[BlobStatus] = []

    def note(event: Event[BlobStatus]) -> None:
        if isinstance(event, Put):
            told.append(event.resource.value)

    async def listen() -> None:
        async for event in world.store.watch(BLOB_STATUS):
            note(event)

    listening = asyncio.create_task(listen())
    async with world.running():
        other = world.download(b"disk")
        await world.claim(other, BlobRole.FILE)
        await world.reached(other, SwState.LOADED)
        listening.cancel()
    assert [status for status in told if status.digest == digest] == [loaded]


async def test_a_layer_that_is_lost_between_two_starts_is_told_to_be(world: World) -> None:
    digest = world.download(world.image().layers[0].path.read_bytes())
    async with world.running():
        await world.claim(digest, BlobRole.LAYER)
        await world.reached(digest, SwState.LOADED)
    world.content.remove(digest)
    (world.where / "downloads" / oci.hex_of(digest)).unlink()
    async with world.running():
        await world.reached(digest, SwState.INITIAL)


# -- Edge Container Images, and signatures --------------------------------------------------------


async def test_an_artifact_tells_its_parts_and_its_config_which_machine_it_is_for(
    world: World,
) -> None:
    machine, other = (
        world.download(f'{{"architecture": "{name}", "os": "darwin"}}'.encode())
        for name in ("amd64", "arm64")
    )
    manifest = world.download(Path("tests/golden/eci/artifacts.json").read_bytes())
    async with world.running():
        for digest, role in (
            (machine, BlobRole.MACHINE),
            (other, BlobRole.MACHINE),
            (manifest, BlobRole.MANIFEST),
        ):
            await world.claim(digest, role)
        await world.reached(machine, SwState.LOADED)
        refused = await world.reached(other, SwState.FAILED)
        read = await world.reached(manifest, SwState.LOADED)
    assert "for linux/arm64: this machine is linux/amd64" in str(refused.trouble)
    kinds = [child.part.kind for child in read.children if child.part is not None]
    assert kinds == ["kernel", "initrd", "disk-root", "disk-additional", "disk-additional"]


async def test_files_that_are_sought_in_a_layer_are_found_but_not_through_links(
    world: World,
) -> None:
    root = world.where / "root"
    (root / "boot").mkdir(parents=True)
    (root / "boot/kernel").write_text("k")
    (root / "link").symlink_to("/etc/passwd")
    (root / "sideways").symlink_to("boot")
    layer = pack_layer(root, world.where / "layer")
    digest = world.download(layer.path.read_bytes())
    seek = ("/boot", "/boot/kernel", "/link", "/none", "/sideways/kernel")
    async with world.running():
        await world.claim(digest, BlobRole.LAYER, seek=seek)
        loaded = await world.reached(digest, SwState.LOADED)
    assert (loaded.asked, loaded.found) == (seek, ("/boot/kernel",))


async def test_what_was_signed_is_proven_by_the_keys_that_made_the_signatures(
    world: World,
) -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    pems = tuple(cosign.public_pem(key) for key in keys)
    image = Digest("sha256:" + "a" * 64)
    payload = cosign.make_payload("registry.local/app", image)
    signatures = tuple(cosign.sign(payload, key) for key in keys[:2])
    digest = world.download(payload)
    async with world.running():
        await world.claim(digest, BlobRole.PAYLOAD, signatures=signatures[:1], keys=pems[1:])
        assert (await world.reached(digest, SwState.LOADED)).signers == ()
        await world.claim(digest, BlobRole.PAYLOAD, signatures=signatures, keys=pems)
        proven = await world.until(digest, lambda blob: blob is not None and bool(blob.signers))
    assert proven is not None
    assert (proven.signed, proven.signers, proven.asked) == (image, pems[:2], pems)


@pytest.mark.parametrize(
    ("payload", "keys", "why"),
    [
        (b"{}", (), "cannot use a signature"),
        (cosign.make_payload("x", Digest("sha256:" + "a" * 64)), ("data:x",), "cannot use a key"),
    ],
)
async def test_what_proves_nothing_says_why(
    world: World, payload: bytes, keys: tuple[str, ...], why: str
) -> None:
    digest = world.download(payload)
    async with world.running():
        await world.claim(digest, BlobRole.PAYLOAD, signatures=("c2ln",), keys=keys)
        refused = await world.reached(digest, SwState.FAILED)
    assert why in str(refused.trouble)
