"""The content store believes what it proved, and nothing else. Needs root, as unpacking does."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from edgevirt.host.content.intake import Cancelled, Missing, WrongDigest
from edgevirt.host.content.store import ContentStore
from edgevirt.host.content.stream import CannotUnpack
from edgevirt.host.content.unpack import Limits
from edgevirt.model.ids import Digest

pytestmark = pytest.mark.root

BLOB = b"blob" * 100_000
LIMITS = Limits(bytes=1 << 20)


def digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def go_on() -> bool:
    return False


class World:
    def __init__(self, where: Path) -> None:
        self.blobs, self.layers = where / "blobs", where / "layers"
        self.downloads = where / "downloads"
        self.downloads.mkdir()

    def start(self, boot: str = "boot-1") -> ContentStore:
        store = ContentStore(self.blobs, self.layers, self.downloads, boot)
        store.begin()
        return store

    def download(self, data: bytes, digest: Digest | None = None) -> Digest:
        digest = digest or digest_of(data)
        (self.downloads / digest.removeprefix("sha256:")).write_bytes(data)
        return digest

    def downloaded(self, digest: Digest) -> Path:
        return self.downloads / digest.removeprefix("sha256:")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("etc/motd")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    return out.getvalue()


# -- taking --


def test_a_proven_blob_is_the_downloaded_file_itself_and_nobody_can_write_it(
    world: World,
) -> None:
    digest = world.download(BLOB)
    store = world.start()
    assert store.ensure(digest, go_on) == len(BLOB)
    kept = store.blob(digest)
    assert kept.read_bytes() == BLOB
    assert kept.samefile(world.downloaded(digest))
    assert kept.stat().st_mode & 0o777 == 0o444


def test_a_file_that_somebody_still_writes_is_copied(world: World) -> None:
    digest = world.download(BLOB)
    store = world.start()
    with open(world.downloaded(digest), "r+b") as writer:
        store.ensure(digest, go_on)
        writer.write(b"evil")
    assert not store.blob(digest).samefile(world.downloaded(digest))
    assert store.blob(digest).read_bytes() == BLOB


def test_another_file_s_second_name_is_copied_and_the_other_left_alone(
    world: World, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(BLOB)
    secret.chmod(0o600)
    digest = digest_of(BLOB)
    os.link(secret, world.downloaded(digest))
    store = world.start()
    store.ensure(digest, go_on)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert not store.blob(digest).samefile(secret)


def test_a_symbolic_link_is_no_download(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(BLOB)
    digest = digest_of(BLOB)
    world.downloaded(digest).symlink_to(secret)
    with pytest.raises(Missing):
        world.start().ensure(digest, go_on)


def test_a_pipe_is_no_download_and_hangs_nobody(world: World) -> None:
    digest = digest_of(BLOB)
    os.mkfifo(world.downloaded(digest))
    with pytest.raises(Missing):
        world.start().ensure(digest, go_on)


def test_wrong_bytes_are_not_kept(world: World) -> None:
    digest = world.download(b"evil", digest_of(BLOB))
    store = world.start()
    with pytest.raises(WrongDigest, match=f"cannot use {digest}: the downloaded bytes are sha256:"):
        store.ensure(digest, go_on)
    assert store.existing() == set()
    world.downloaded(digest).unlink()
    world.download(BLOB)
    assert store.ensure(digest, go_on) == len(BLOB)


def test_hashing_ends_when_it_is_no_longer_wanted(world: World) -> None:
    digest = world.download(BLOB)
    store = world.start()
    with pytest.raises(Cancelled):
        store.ensure(digest, lambda: True)
    assert store.existing() == set()


def test_a_blob_is_taken_once(world: World) -> None:
    digest = world.download(BLOB)
    store = world.start()
    store.ensure(digest, go_on)
    world.downloaded(digest).unlink()
    assert store.ensure(digest, go_on) == len(BLOB)


# -- layers --


def test_a_layer_is_unpacked_once_and_removed_with_its_blob(world: World) -> None:
    digest = world.download(layer())
    store = world.start()
    store.ensure(digest, go_on)
    assert store.unpack(digest, digest_of(layer()), LIMITS, go_on) == 5
    inode = (store.layer(digest) / "etc/motd").stat().st_ino
    again = world.start()
    assert again.unpack(digest, digest_of(layer()), LIMITS, go_on) == 5
    assert (again.layer(digest) / "etc/motd").stat().st_ino == inode
    again.remove(digest)
    assert again.existing() == set()
    assert list(world.layers.iterdir()) == []


def test_a_layer_that_is_not_what_its_image_says_is_refused(world: World) -> None:
    digest = world.download(layer())
    store = world.start()
    store.ensure(digest, go_on)
    with pytest.raises(CannotUnpack, match="its image says sha256:"):
        store.unpack(digest, digest_of(b"other"), LIMITS, go_on)


def test_a_layer_that_fails_leaves_nothing_behind(world: World) -> None:
    digest = world.download(layer())
    store = world.start()
    store.ensure(digest, go_on)
    with pytest.raises(CannotUnpack, match="more than 100 bytes"):
        store.unpack(digest, None, Limits(bytes=100), go_on)
    with pytest.raises(Cancelled):
        store.unpack(digest, None, LIMITS, lambda: True)
    assert list(world.layers.iterdir()) == []


# -- crashes --


def test_what_a_crash_left_half_done_is_cleared(world: World) -> None:
    world.start()
    (world.layers / ".abc.part/deep").mkdir(parents=True)
    (world.blobs / ".abc.new").write_bytes(b"x")
    world.start()
    assert list(world.layers.iterdir()) == []
    assert [path.name for path in world.blobs.iterdir()] == [".session"]


def test_a_blob_without_a_record_is_not_believed(world: World) -> None:
    store = world.start()
    digest = digest_of(BLOB)
    store.blob(digest).write_bytes(b"evil")
    with pytest.raises(Missing):
        store.ensure(digest, go_on)


def test_a_layer_without_a_record_is_unpacked_anew(world: World) -> None:
    digest = world.download(layer())
    store = world.start()
    store.ensure(digest, go_on)
    store.layer(digest).mkdir()
    (store.layer(digest) / "evil").touch()
    store.unpack(digest, None, LIMITS, go_on)
    assert [path.name for path in store.layer(digest).iterdir()] == ["etc"]


def test_a_blob_of_another_size_than_recorded_is_not_believed(world: World) -> None:
    digest = world.download(BLOB)
    store = world.start()
    store.ensure(digest, go_on)
    damage(store.blob(digest), BLOB[:-1])
    world.downloaded(digest).unlink()
    with pytest.raises(Missing):
        store.ensure(digest, go_on)


def damage(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def test_after_a_power_cut_blobs_are_proven_again(world: World) -> None:
    sound, damaged = world.download(BLOB), world.download(BLOB + b"x")
    store = world.start("boot-1")
    for digest in (sound, damaged):
        store.ensure(digest, go_on)
        world.downloaded(digest).unlink()
    damage(store.blob(damaged), BLOB + b"y")
    same_boot = world.start("boot-1")
    assert same_boot.ensure(damaged, go_on) == len(BLOB) + 1
    next_boot = world.start("boot-2")
    assert next_boot.ensure(sound, go_on) == len(BLOB)
    with pytest.raises(Missing):
        next_boot.ensure(damaged, go_on)


def test_after_an_orderly_end_records_are_believed(world: World) -> None:
    digest = world.download(BLOB)
    store = world.start("boot-1")
    store.ensure(digest, go_on)
    damage(store.blob(digest), b"x" * len(BLOB))
    store.end()
    assert world.start("boot-2").ensure(digest, go_on) == len(BLOB)


def test_after_a_power_cut_a_layer_that_lost_a_file_is_unpacked_anew(world: World) -> None:
    digest = world.download(layer())
    store = world.start("boot-1")
    store.ensure(digest, go_on)
    store.unpack(digest, None, LIMITS, go_on)
    (store.layer(digest) / "etc/motd").write_bytes(b"")
    store = world.start("boot-2")
    store.ensure(digest, go_on)
    store.unpack(digest, None, LIMITS, go_on)
    assert (store.layer(digest) / "etc/motd").read_bytes() == b"hello"


def test_a_document_is_proven_each_time_that_it_is_read(world: World) -> None:
    digest = world.download(b"{}")
    store = world.start()
    store.ensure(digest, go_on)
    assert store.read(digest) == b"{}"
    damage(store.blob(digest), b"[]")
    with pytest.raises(Missing, match="damaged on the disk"):
        store.read(digest)


def test_others_cannot_enter_the_layers(world: World) -> None:
    world.start()
    assert world.layers.stat().st_mode & 0o007 == 0
