"""What a virtual machine has besides its disks, as it was: UEFI variables, and a TPM's state.

`<snapshot>/` holds `vars.fd` and `tpm/`, as far as the machine had them, and `record.json`, which
says that it is whole. Whatever else is there is what a crash left.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from edgevirt.host.files import (
    disk_errors,
    remove_tree,
    sync_directory,
    sync_file_system,
    write_whole,
)


class StateRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    app: str
    begun: float
    restored: int = 0


class MachineStates:
    """For one snapshot at a time; its machine is at rest. All of it blocks, briefly.

    `firmware` has `<app>.fd`, `tpms` has `<app>/`; both may be missing.
    """

    def __init__(self, directory: Path, firmware: Path, tpms: Path) -> None:
        self._directory = directory
        self._firmware = firmware
        self._tpms = tpms

    def begin(self) -> None:
        """Clears what a crash left half done."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in list(self._directory.iterdir()):
            if self.record(path.name) is None:
                remove_tree(path)

    def record(self, id: str) -> StateRecord | None:
        """None: nothing is kept by that name, or not all of it."""
        try:
            data = (self._directory / id / "record.json").read_bytes()
            return msgspec.json.decode(data, type=StateRecord)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def records(self) -> dict[str, StateRecord]:
        names = [path.name for path in self._directory.iterdir()]
        found = {name: self.record(name) for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def take(self, id: str, app: str, begun: float) -> StateRecord:
        """Raises DiskError: then nothing is kept, and the machine has what it had."""
        place, record = self._directory / id, StateRecord(app=app, begun=begun)
        with disk_errors(f"keep the state of machine {app}"):
            remove_tree(place)
            place.mkdir(mode=0o700)
            for source, kept in self._parts(place, app):
                _copy(source, kept)
            sync_file_system(place)
            write_whole(place / "record.json", msgspec.json.encode(record), mode=0o600)
            sync_directory(self._directory)
        return record

    def restore(self, id: str, record: StateRecord, counter: int) -> StateRecord:
        """The machine has what it had then, and nothing that it had not. Raises DiskError; then, as
        after a crash, restore again.
        """
        place = self._directory / id
        with disk_errors(f"bring the state of machine {record.app} back"):
            for target, kept in self._parts(place, record.app):
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                back = target.with_name(f".{target.name}.back")
                remove_tree(back)
                _copy(kept, back)
                remove_tree(target)
                with suppress(FileNotFoundError):
                    back.rename(target)
                sync_file_system(target.parent)
            record = msgspec.structs.replace(record, restored=counter)
            write_whole(place / "record.json", msgspec.json.encode(record), mode=0o600)
        return record

    def remove(self, id: str) -> None:
        """Raises DiskError; then call it again."""
        with disk_errors(f"delete the state that snapshot {id} has"):
            with suppress(FileNotFoundError):
                (self._directory / id / "record.json").unlink()
            remove_tree(self._directory / id)

    def _parts(self, place: Path, app: str) -> tuple[tuple[Path, Path], ...]:
        """Where the machine has each, and where it is kept."""
        return (
            (self._firmware / f"{app}.fd", place / "vars.fd"),
            (self._tpms / app, place / "tpm"),
        )


def _copy(source: Path, target: Path) -> None:
    """A file, or a directory of files, with their owners; nothing where there is nothing."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
        paths = (source, *source.rglob("*"))
    elif source.exists():
        shutil.copy2(source, target)
        paths = (source,)
    else:
        return
    for path in paths:
        found = path.lstat()
        made = target / path.relative_to(source)
        os.chown(made, found.st_uid, found.st_gid, follow_symlinks=False)
