"""Snapshots on disk: copies of volumes, or the volumes themselves that nobody needs any more.

Beside the volumes: `<id>@<volume key>` is what a volume was, `<id>@.json` says that the snapshot is
whole (its record). A file without a record is what a crash left, and goes at the next start. Going
back is in two steps: copies are made (`.<volume key>.back`), then they take the volumes' names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from edgevirt.host.big_files import copy_sparse
from edgevirt.host.files import (
    DiskError,
    allocated,
    disk_errors,
    remove_tree,
    sync_directory,
    write_whole,
)
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.host.volumes.written import carry_mark


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    app: str
    begun: float
    volumes: dict[str, VolumeRecord]
    """By the volume's key."""
    moves: tuple[str, ...] = ()
    """Of the volumes, those that are no copies."""
    finished: bool = False
    """Those have moved."""
    restored: int = 0


class SnapshotFiles:
    """For one snapshot at a time; its volumes are at rest where that is said."""

    def __init__(self, volumes: VolumeFiles) -> None:
        self._volumes = volumes
        self._directory = volumes.directory

    def begin(self) -> None:
        """Clears what a crash left half done. Blocks. The volumes have begun."""
        whole = set(self.records())
        for path in list(self._directory.glob("[!.]*@*")):
            if path.name.partition("@")[0] not in whole:
                remove_tree(path)

    def record(self, id: str) -> SnapshotRecord | None:
        """None: there is no such snapshot, or not all of it."""
        try:
            data = self._record_path(id).read_bytes()
            return msgspec.json.decode(data, type=SnapshotRecord)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def records(self) -> dict[str, SnapshotRecord]:
        names = [path.name.removesuffix("@.json") for path in self._directory.glob("[!.]*@.json")]
        found = {name: self.record(name) for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def taken(self, id: str) -> int:
        """Bytes that it takes on the disk now."""
        return sum(allocated(path) for path in self._directory.glob(f"{id}@*"))

    async def take(
        self, id: str, app: str, begun: float, copies: Iterable[str], moves: Iterable[str]
    ) -> SnapshotRecord:
        """The volumes are at rest. Raises DiskError: then all of them are where they were."""
        moves = tuple(moves)
        with disk_errors(f"take snapshot {id}"):
            await asyncio.to_thread(self.remove, id)
            volumes = {key: self._there(key) for key in (*copies, *moves)}
            try:
                for key in volumes:
                    if key not in moves:
                        await self._copy(self._volumes.path(key), self._path(id, key))
                record = SnapshotRecord(app=app, begun=begun, volumes=volumes, moves=moves)
                self._write(id, record)
            except BaseException:
                self._remove_files(id)
                raise
        return self.finish(id, record)

    def finish(self, id: str, record: SnapshotRecord) -> SnapshotRecord:
        """From its record on it is whole: what is still to be moved is. Blocks. Raises DiskError;
        then call it again.
        """
        if record.finished:  # a volume may have been brought back under the same key since
            return record
        with disk_errors(f"finish snapshot {id}"):
            for key in record.moves:
                self._volumes.give_away(key, self._path(id, key))
            record = msgspec.structs.replace(record, finished=True)
            self._write(id, record)
        return record

    async def prepare(self, id: str, record: SnapshotRecord) -> None:
        """Copies of what its volumes were. Raises DiskError."""
        with disk_errors(f"go back to snapshot {id}"):
            for key in record.volumes:
                back = self._back(key)
                remove_tree(back)
                await self._copy(self._path(id, key), back)

    def is_prepared(self, record: SnapshotRecord) -> bool:
        return all(self._back(key).exists() for key in record.volumes)

    def withdraw(self, record: SnapshotRecord) -> None:
        """As if it had not been prepared. Blocks."""
        for key in record.volumes:
            remove_tree(self._back(key))

    def restore(self, id: str, record: SnapshotRecord, counter: int) -> SnapshotRecord:
        """The volumes become what they were; they are at rest, and `prepare` is done. Blocks.

        After a crash or DiskError: prepare and restore again.
        """
        with disk_errors(f"go back to snapshot {id}"):
            for key, volume in record.volumes.items():
                self._volumes.take_back(key, volume, self._back(key))
            record = msgspec.structs.replace(record, restored=counter)
            self._write(id, record)
        return record

    def remove(self, id: str) -> None:
        """Blocks. Raises DiskError; then call it again."""
        with disk_errors(f"delete snapshot {id}"):
            with suppress(FileNotFoundError):
                self._record_path(id).unlink()
            sync_directory(self._directory)
            self._remove_files(id)

    def _remove_files(self, id: str) -> None:
        for path in list(self._directory.glob(f"{id}@*")):
            remove_tree(path)

    def _there(self, key: str) -> VolumeRecord:
        record = self._volumes.record(key)
        if record is None:
            raise DiskError(f"cannot take a snapshot: volume {key} is not there")
        if not self._volumes.path(key).is_file():
            why = "is a directory, as an earlier version made them; a purge makes it a file"
            raise DiskError(f"cannot take a snapshot: volume {key} {why}")
        return record

    async def _copy(self, source: Path, target: Path) -> None:
        staged = target.with_name(f".{target.name.removeprefix('.')}.part")
        try:
            await copy_sparse(source, staged)
            carry_mark(source, staged)
            staged.rename(target)
            sync_directory(self._directory)
        except BaseException:
            with suppress(FileNotFoundError):
                staged.unlink()
            raise

    def _write(self, id: str, record: SnapshotRecord) -> None:
        write_whole(self._record_path(id), msgspec.json.encode(record), mode=0o600)

    def _path(self, id: str, key: str) -> Path:
        return self._directory / f"{id}@{key}"

    def _record_path(self, id: str) -> Path:
        return self._directory / f"{id}@.json"

    def _back(self, key: str) -> Path:
        return self._directory / f".{key}.back"
