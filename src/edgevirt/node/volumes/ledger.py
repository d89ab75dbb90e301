"""What volumes and snapshots were promised of the disk, so that no byte is promised twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgevirt.host.files import room
from edgevirt.model.kinds import BLOB_STATUS
from edgevirt.model.volume import StorageUse
from edgevirt.node.volumes.space import Promise, remaining, reserved
from edgevirt.runtime import Inputs


class Ledger:
    """`persist`: somewhere on the disk. Whoever asks reads BLOB_STATUS and PROPERTY."""

    def __init__(self, persist: Path) -> None:
        self._persist = persist
        self._promised: dict[str, tuple[int, Callable[[], int]]] = {}
        self._counted: list[Callable[[], Promise]] = []

    def __contains__(self, key: str) -> bool:
        return key in self._promised

    def promise(self, key: str, size: int, taken: Callable[[], int]) -> None:
        """`size`: bytes at most. `taken`: tells how many of them lie on the disk already."""
        self._promised[key] = (size, taken)

    def count(self, promise: Callable[[], Promise]) -> None:
        """Something besides, which is asked each time."""
        self._counted.append(promise)

    def drop(self, key: str) -> None:
        self._promised.pop(key, None)

    def left(self, key: str, inputs: Inputs) -> int:
        """Bytes that may be promised to `key`."""
        others = [
            Promise(size, taken())
            for other, (size, taken) in self._promised.items()
            if other != key
        ]
        others.extend(ask() for ask in self._counted)
        return remaining(room(self._persist), others, inputs)

    def use(self, inputs: Inputs) -> StorageUse:
        """Volumes go by their keys, which have a generation; all else is of snapshots."""
        disk = room(self._persist)
        blobs = inputs.all(BLOB_STATUS).values()
        volumes = sum(size for key, (size, _) in self._promised.items() if "#" in key)
        return StorageUse(
            total=disk.total,
            free=disk.free,
            reserved=reserved(disk.total, inputs),
            content=sum(blob.size + blob.unpacked for blob in blobs)
            + sum(ask().size for ask in self._counted),
            volumes=volumes,
            snapshots=sum(size for size, _ in self._promised.values()) - volumes,
            left=self.left("", inputs),
        )

    def shortage(self, what: str, needed: int, left: int, inputs: Inputs) -> str:
        """In EVE's words, and then where the disk went."""
        disk = room(self._persist)
        promised = sum(size for size, _ in self._promised.values())
        own = reserved(disk.total, inputs)
        return (
            f"Remaining disk space {left} {what} needs {needed}: of {disk.total} bytes "
            f"{disk.free} are free, {promised} promised to volumes, {own} the node's own"
        )
