"""Volumes on disk: each a file or a directory, and a record that says it is whole.

`volumes/<key>` without `volumes/<key>.json` is what a crash left, and goes at the next start.
Names with `@` are of snapshots (see `snapshot`): beside the volumes, so that a volume becomes part
of one by a new name alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec

from edgevirt.host.big_files import copy_sparse, make_ext4
from edgevirt.host.files import (
    allocated,
    disk_errors,
    remove_tree,
    sync_directory,
    sync_file,
    sync_file_system,
    write_whole,
)
from edgevirt.host.volumes.convert import convert, resize
from edgevirt.host.volumes.image import read_disk_image
from edgevirt.host.volumes.written import mark_foreign
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.eci import Declared, TreePart
from edgevirt.model.ids import Digest

_BLOCK = 1024 * 1024
_PLAIN = frozenset({ContentFormat.CONTAINER, ContentFormat.RAW})
"""Formats whose file is as long as what it holds."""


class VolumeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    format: ContentFormat
    size: int
    """Bytes at most, as far as something bounds them."""
    asked: int = 0
    """Bytes that the config asked for when it was made or last grown; 0: none, or not known."""
    layers: tuple[Digest, ...] = ()
    """Lowest first."""
    image: ImageConfig | None = None
    parts: tuple[TreePart, ...] = ()
    """A kernel, an initrd, further disks: files of the content store that stay there."""
    declared: Declared = Declared()
    name: str = ""
    readonly: bool = False
    """As when it was made: its config may be gone while it is used."""


_RECORDS = msgspec.json.Decoder(VolumeRecord)


class VolumeFiles:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def alone(self, *keys: str) -> AsyncIterator[None]:
        """Nobody else copies these volumes, replaces them or makes them bigger meanwhile."""
        async with AsyncExitStack() as held:
            for key in sorted(keys):
                await held.enter_async_context(self._locks.setdefault(key, asyncio.Lock()))
            yield

    def begin(self) -> None:
        """Clears what a crash left half done. Blocks."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = set(self.records())
        for path in list(self._directory.iterdir()):
            if "@" in path.name and not path.name.startswith("."):
                continue
            if path.name.removesuffix(".json") not in whole:
                remove_tree(path)

    @property
    def directory(self) -> Path:
        return self._directory

    def path(self, key: str) -> Path:
        return self._directory / key

    def record(self, key: str) -> VolumeRecord | None:
        """None: there is no such volume, or not all of it."""
        try:
            data = self._record_path(key).read_bytes()
            record = _RECORDS.decode(data)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return record if self.path(key).exists() else None

    def records(self) -> dict[str, VolumeRecord]:
        paths = self._directory.glob("[!.]*.json")
        keys = [path.name.removesuffix(".json") for path in paths if "@" not in path.name]
        found = {key: self.record(key) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    def taken(self, key: str) -> int:
        """Bytes that a volume that is one file takes now; 0 for a directory: nobody counted."""
        return allocated(self.path(key))

    async def make_blank(self, key: str, record: VolumeRecord) -> None:
        """An empty ext4 file system of `record.size` bytes: a volume's, or what is written over a
        container's layers. Raises DiskError.
        """
        staged = self._staged(key)
        with disk_errors(f"make volume {key}"):
            await make_ext4(staged, record.size, key[:8])
            self._commit(key, record)

    async def make_copy(self, key: str, record: VolumeRecord, blob: Path) -> None:
        """A disk of its own from a blob that was looked at (`disk_image`); a raw one is as big as
        `record.size`. Raises DiskError.
        """
        staged = self._staged(key)
        with disk_errors(f"make volume {key}"):
            await copy_sparse(blob, staged)
            if record.format == ContentFormat.RAW and record.size > staged.stat().st_size:
                os.truncate(staged, record.size)
            mark_foreign(staged)
            self._commit(key, record)

    async def make_converted(
        self, key: str, record: VolumeRecord, blob: Path, format: ContentFormat
    ) -> None:
        """A qcow2 of its own from a blob of a format, as big as `record.size` or as that blob's
        disk. Raises DiskError, BadDiskImage.
        """
        staged = self._staged(key)
        with disk_errors(f"make volume {key}"):
            await convert(blob, format, staged, record.size)
            await asyncio.to_thread(sync_file_system, staged)
            self._commit(key, record)

    def make_pieces(
        self, key: str, record: VolumeRecord, pieces: Iterable[tuple[int, Path]]
    ) -> None:
        """A raw disk of `record.size` bytes from files at offsets. Blocks. Raises DiskError."""
        staged = self._staged(key)
        with disk_errors(f"make volume {key}"):
            with open(staged, "wb") as target:
                os.fchmod(target.fileno(), 0o600)
                for offset, path in pieces:
                    with open(path, "rb") as source:
                        target.seek(offset)
                        shutil.copyfileobj(source, target, _BLOCK)
                target.truncate(record.size)
                target.flush()
                os.fsync(target.fileno())
            mark_foreign(staged)
            self._commit(key, record)

    def make_nothing(self, key: str, record: VolumeRecord) -> None:
        """A volume of a machine without a disk. Blocks. Raises DiskError."""
        staged = self._staged(key)
        with disk_errors(f"make volume {key}"):
            staged.touch(mode=0o600)
            self._commit(key, record)

    def room(self, key: str, record: VolumeRecord) -> int | None:
        """Bytes that it really has room for, whatever its record says; None: nothing bounds them,
        or nobody writes to it. Blocks. Raises BadDiskImage, OSError.
        """
        path = self.path(key)
        if record.format in _PLAIN and path.is_file():
            return path.stat().st_size
        if record.format is ContentFormat.QCOW2:
            return read_disk_image(path, record.format).virtual_size
        return None

    async def grow(self, key: str, record: VolumeRecord) -> None:
        """Gives a volume that nobody uses room for `record.size` bytes, in whole sectors, and then
        records that. What is in it stays. After a crash call it again. Raises DiskError,
        BadDiskImage.
        """
        path = self.path(key)
        with disk_errors(f"grow volume {key}"):
            if record.format is ContentFormat.QCOW2:
                await resize(path, record.size)
            else:
                os.truncate(path, record.size)
            await asyncio.to_thread(sync_file, path)
            self.write_record(key, record)

    def write_record(self, key: str, record: VolumeRecord) -> None:
        """Instead of the one that is there. Raises OSError."""
        write_whole(self._record_path(key), msgspec.json.encode(record), mode=0o600)

    def give_away(self, key: str, target: Path) -> None:
        """Its file becomes `target`, in the same directory; it is no volume any more. Blocks.

        After a crash call it again. Raises OSError.
        """
        with suppress(FileNotFoundError):
            self.path(key).rename(target)
        with suppress(FileNotFoundError):
            self._record_path(key).unlink()
        sync_directory(self._directory)

    def take_back(self, key: str, record: VolumeRecord, source: Path) -> None:
        """`source`, in the same directory, becomes the volume, instead of what it was. Blocks.
        Raises OSError.
        """
        source.rename(self.path(key))
        sync_directory(self._directory)
        if self.record(key) != record:
            self.write_record(key, record)

    def remove(self, key: str) -> None:
        """Blocks, long for a big directory. After a crash nothing of it is believed."""
        with suppress(FileNotFoundError):
            self._record_path(key).unlink()
        path, gone = self.path(key), self._directory / f".{key}.gone"
        remove_tree(gone)
        with suppress(FileNotFoundError):
            path.rename(gone)
        remove_tree(gone)

    def _staged(self, key: str) -> Path:
        staged = self._directory / f".{key}.part"
        remove_tree(staged)
        return staged

    def _commit(self, key: str, record: VolumeRecord) -> None:
        remove_tree(self.path(key))
        (self._directory / f".{key}.part").rename(self.path(key))
        sync_directory(self._directory)
        self.write_record(key, record)

    def _record_path(self, key: str) -> Path:
        return self._directory / f"{key}.json"
