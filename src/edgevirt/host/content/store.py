"""The content store: blobs under their digest, proven, and layers unpacked from them.

`blobs/<hex>` is a proven blob, `blobs/<hex>.json` says so (its record); `layers/<hex>/` is what
that layer holds. What isn't recorded isn't believed: after any crash it is made again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from edgevirt.host.content.intake import Cancelled, Missing, hash_file, take
from edgevirt.host.content.stream import CannotUnpack
from edgevirt.host.content.unpack import Limits, unpack_layer
from edgevirt.host.files import (
    remove_tree,
    sync_directory,
    sync_file_system,
    write_whole,
)
from edgevirt.model.ids import Digest
from edgevirt.wire import oci

_SESSION = ".session"


class LayerRecord(msgspec.Struct, frozen=True, kw_only=True):
    diff_id: str
    bytes: int
    """Of the files' content."""
    tally: tuple[int, int]
    """(entries, bytes) as a walk counts them."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    size: int
    layer: LayerRecord | None = None


_RECORDS = msgspec.json.Decoder(Record)
"""Made before there are threads: msgspec lays out a type when it is first used, and two threads
that do so at once crash the process."""


class ContentStore:
    """Blocks: call it in threads, for one digest at a time."""

    def __init__(self, blobs: Path, layers: Path, downloads: Path, boot_id: str) -> None:
        self._blobs = blobs
        self._layers = layers
        self._downloads = downloads
        self._boot_id = boot_id
        self._suspects: set[str] = set()

    # -- start and end --

    def begin(self) -> None:
        """Clears what a crash left half done. After a power cut nothing recorded is believed
        until it is proven again.
        """
        self._blobs.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._layers.mkdir(mode=0o700, parents=True, exist_ok=True)  # setuid programs are in it
        session = self._blobs / _SESSION
        if session.exists() and session.read_text() != self._boot_id:
            self._suspects = {oci.hex_of(digest) for digest in self.existing()}
        for directory in (self._blobs, self._layers):
            for path in directory.iterdir():
                if path.name.startswith(".") and path != session:
                    remove_tree(path)
        write_whole(session, self._boot_id.encode())

    def end(self) -> None:
        """Everything is durable: the next start may believe the records."""
        with suppress(FileNotFoundError):
            (self._blobs / _SESSION).unlink()

    def existing(self) -> set[Digest]:
        names = {path.name.removesuffix(".json") for path in self._blobs.iterdir()}
        names |= {path.name for path in self._layers.iterdir()}
        digests = {Digest(f"sha256:{name}") for name in names}
        return {digest for digest in digests if oci.is_digest(digest)}

    # -- blobs --

    def blob(self, digest: Digest) -> Path:
        return self._blobs / oci.hex_of(digest)

    def ensure(self, digest: Digest, cancelled: Callable[[], bool]) -> int:
        """Makes the blob part of the store, from the downloads if need be; returns its size.

        Raises Missing, WrongDigest, NoRoom, Cancelled.
        """
        record = self._record(digest)
        if record is not None and self._is_sound(digest, record, cancelled):
            return record.size
        self._forget(digest)
        size = take(self._downloads, digest, self.blob(digest), cancelled)
        self._write_record(digest, Record(size=size))
        return size

    def read(self, digest: Digest) -> bytes:
        """A small document, as it was proven. Raises Missing when the disk changed it since."""
        with open(self.blob(digest), "rb") as file:
            data = file.read(oci.MAX_DOCUMENT + 1)
        if len(data) <= oci.MAX_DOCUMENT and hashlib.sha256(data).hexdigest() != oci.hex_of(digest):
            self._forget(digest)
            raise Missing(f"{digest} was damaged on the disk")
        return data

    def remove(self, digest: Digest) -> None:
        """The blob and what was unpacked from it."""
        self._forget(digest)
        layer = self.layer(digest)
        if layer.exists():
            gone = self._layers / f".{layer.name}.gone"
            remove_tree(gone)
            layer.rename(gone)
            remove_tree(gone)

    def _forget(self, digest: Digest) -> None:
        for path in (self._record_path(digest), self.blob(digest)):
            with suppress(FileNotFoundError):
                path.unlink()

    def _is_sound(self, digest: Digest, record: Record, cancelled: Callable[[], bool]) -> bool:
        path = self.blob(digest)
        try:
            if path.stat().st_size != record.size:
                return False
            if oci.hex_of(digest) not in self._suspects:
                return True
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return hash_file(descriptor, cancelled) == oci.hex_of(digest)
        finally:
            os.close(descriptor)

    # -- layers --

    def layer(self, digest: Digest) -> Path:
        return self._layers / oci.hex_of(digest)

    def unpack(
        self,
        digest: Digest,
        diff_id: Digest | None,
        limits: Limits,
        cancelled: Callable[[], bool],
    ) -> int:
        """Makes the layer's directory; returns the bytes that it takes. The blob is in the store.

        Raises CannotUnpack, NoRoom, Cancelled.
        """
        record = self._record(digest)
        assert record is not None
        if record.layer is None or not self._is_layer_sound(digest, record.layer):
            record = Record(size=record.size, layer=self._unpack(digest, limits, cancelled))
            self._write_record(digest, record)
        assert record.layer is not None
        if diff_id not in {None, record.layer.diff_id}:
            raise CannotUnpack(
                f"cannot unpack: the layer is {record.layer.diff_id}, its image says {diff_id}"
            )
        return record.layer.bytes

    def files_in(self, digest: Digest, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` (absolute, without `..`) that are regular files of an unpacked layer,
        reached without a symbolic link.
        """
        return tuple(name for name in names if _is_plain(self.layer(digest), name))

    def _unpack(self, digest: Digest, limits: Limits, cancelled: Callable[[], bool]) -> LayerRecord:
        target = self.layer(digest)
        staged = self._layers / f".{target.name}.part"
        remove_tree(staged)
        staged.mkdir()
        try:
            done = unpack_layer(self.blob(digest), staged, limits, cancelled=cancelled)
            if cancelled():
                raise Cancelled
            remove_tree(target)
            sync_file_system(staged)
            staged.rename(target)
            sync_directory(self._layers)
        except CannotUnpack:
            if cancelled():
                raise Cancelled from None
            raise
        finally:
            remove_tree(staged)
        return LayerRecord(diff_id=done.diff_id, bytes=done.bytes, tally=_tally(target))

    def _is_layer_sound(self, digest: Digest, record: LayerRecord) -> bool:
        target = self.layer(digest)
        if not target.is_dir():
            return False
        return oci.hex_of(digest) not in self._suspects or _tally(target) == record.tally

    def believe(self, digest: Digest) -> None:
        """What is there was proven since the start."""
        self._suspects.discard(oci.hex_of(digest))

    # -- records --

    def _record_path(self, digest: Digest) -> Path:
        return self._blobs / f"{oci.hex_of(digest)}.json"

    def _record(self, digest: Digest) -> Record | None:
        try:
            return _RECORDS.decode(self._record_path(digest).read_bytes())
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _write_record(self, digest: Digest, record: Record) -> None:
        write_whole(self._record_path(digest), msgspec.json.encode(record))


def _is_plain(top: Path, name: str) -> bool:
    path = top
    *directories, last = [part for part in name.split("/") if part]
    try:
        for part in directories:
            path /= part
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return False
        return stat.S_ISREG(os.lstat(path / last).st_mode)
    except OSError:
        return False


def _tally(directory: Path) -> tuple[int, int]:
    """(entries, bytes of regular files) below."""
    entries = total = 0
    for item in _walk(directory):
        entries += 1
        if item.is_file(follow_symlinks=False):
            total += item.stat(follow_symlinks=False).st_size
    return entries, total


def _walk(directory: Path) -> Iterator[os.DirEntry[str]]:
    todo = [str(directory)]
    while todo:
        with os.scandir(todo.pop()) as items:
            for item in items:
                yield item
                if item.is_dir(follow_symlinks=False):
                    todo.append(item.path)
