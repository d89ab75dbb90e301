"""Bundles on disk: waiting, refused, or sent and kept; within a quota, the oldest going first.

Names and order as in EVE's docs/LOGGING.md: `dev.log.<ms>.gz`,
`app.<uuid>.log.<ms>.gz`, `skipTx.` in front of what stays on the node.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

WAITING_DEVICE = "devUpload"
WAITING_APP = "appUpload"
FAILED = "failedUpload"
KEPT = "keepSentQueue"
EVICTION = (KEPT, FAILED, WAITING_DEVICE, WAITING_APP)
MAX_FAILED = 1000
STAYS = "skipTx."


class Shelved(msgspec.Struct, frozen=True):
    """A bundle on disk. `app`: the app's id, empty for the node's own. `created`: seconds."""

    path: Path
    app: str
    created: float
    size: int

    @property
    def name(self) -> str:
        return self.path.name


class Shelf:
    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self) -> None:
        """Makes the directories; removes what a cut left half written."""
        for folder in EVICTION:
            directory = self._root / folder
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o750)
            for part in directory.glob("*.part"):
                part.unlink()

    def put(self, content: bytes, app: str, created: float, *, stays: bool) -> Shelved:
        """Durable when it returns. Raises OSError when the disk is full."""
        folder = self._root / (KEPT if stays else WAITING_APP if app else WAITING_DEVICE)
        milliseconds = int(created * 1000)
        while True:
            name = f"app.{app}.log.{milliseconds}.gz" if app else f"dev.log.{milliseconds}.gz"
            path = folder / (STAYS + name if stays else name)
            if not path.exists():
                break
            milliseconds += 1
        _write(path, content)
        return Shelved(path, app, milliseconds / 1000, len(content))

    def waiting(self) -> list[Shelved]:
        """What is still to be sent, oldest first."""
        found = [*self._in(WAITING_DEVICE), *self._in(WAITING_APP)]
        return sorted(found, key=lambda bundle: bundle.created)

    def sent(self, name: str) -> None:
        self._move(name, KEPT)

    def refused(self, name: str) -> None:
        """Set aside; the oldest refused ones go when there are more than MAX_FAILED."""
        self._move(name, FAILED)
        for old in self._in(FAILED)[:-MAX_FAILED]:
            old.path.unlink(missing_ok=True)

    def evict(self, quota: int) -> list[str]:
        """Deletes until the bundles take at most `quota` bytes; names those not yet sent."""
        excess = sum(b.size for folder in EVICTION for b in self._in(folder)) - quota
        lost: list[str] = []
        for folder in EVICTION:
            for bundle in self._in(folder):
                if excess <= 0:
                    return lost
                bundle.path.unlink(missing_ok=True)
                excess -= bundle.size
                if folder in {WAITING_DEVICE, WAITING_APP}:
                    lost.append(bundle.name)
        return lost

    def quota(self, megabytes: int) -> int:
        """Bytes: `megabytes`, but no more than a tenth of the file system (EVE's rule)."""
        disk = os.statvfs(self._root)
        return min(megabytes * 1_000_000, disk.f_blocks * disk.f_frsize // 10)

    def _in(self, folder: str) -> list[Shelved]:
        found = []
        for path in (self._root / folder).glob("*.gz"):
            parsed = _parse(path)
            if parsed is not None:
                found.append(parsed)
        return sorted(found, key=lambda bundle: bundle.created)

    def _move(self, name: str, folder: str) -> None:
        for waiting in (WAITING_DEVICE, WAITING_APP):
            path = self._root / waiting / name
            if path.exists():
                path.rename(self._root / folder / name)


def _parse(path: Path) -> Shelved | None:
    parts = path.name.removeprefix(STAYS).split(".")
    try:
        size = path.stat().st_size
        if parts[0] == "dev" and len(parts) == 4:
            return Shelved(path, "", int(parts[2]) / 1000, size)
        if parts[0] == "app" and len(parts) == 5:
            return Shelved(path, parts[1], int(parts[3]) / 1000, size)
    except (ValueError, FileNotFoundError):
        return None
    return None


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
