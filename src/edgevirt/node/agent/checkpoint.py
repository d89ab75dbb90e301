"""What the agent keeps on disk: who it is, whom it trusts, and the last good config.

The config is kept as it came, with the certificates that vouched for it, and is verified again
whenever it is read: the disk is not believed. The one before is kept as well.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from edgevirt.model.ids import NodeId

T = TypeVar("T", bound=msgspec.Struct)
_log = logging.getLogger(__name__)


class SavedConfig(msgspec.Struct, frozen=True):
    """`envelope`: the reply of the controller. `certificates`: the list that it was verified with.
    `at`: wall clock of the acceptance; certificates that ran out since still vouch for it.
    """

    envelope: bytes
    certificates: bytes
    at: float


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Small things that outlive a restart."""

    node: NodeId | None = None
    certificates: bytes = b""
    """The last accepted `ZControllerCert`."""
    certificates_hash: str = ""
    """The controller's name for the list that it wants us to have."""
    reboot_counter: int | None = None
    shutdown_counter: int | None = None


class Checkpoint:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.facts = self._read("facts", Facts) or self._read("facts.bak", Facts) or Facts()

    def remember(self, **changes: object) -> None:
        """Durable when it returns."""
        self.facts = msgspec.structs.replace(self.facts, **changes)
        self._write("facts", msgspec.msgpack.encode(self.facts))

    def save_config(self, saved: SavedConfig) -> None:
        """The one before stays as the backup. Durable when it returns."""
        self._write("config", msgspec.msgpack.encode(saved))

    def keep_steady(self) -> None:
        """The config in force has proved itself: it is what is tried first after a crash."""
        saved = self._read("config", SavedConfig)
        if saved is not None:
            self._write("steady", msgspec.msgpack.encode(saved))

    def configs(self, *, after_crash: bool = False) -> list[tuple[str, SavedConfig]]:
        """What there is to try, the newest first; after a crash the one that was steady before."""
        names = ["config", "config.bak", "steady"]
        if after_crash:
            names.insert(0, names.pop())
        found = [(name, self._read(name, SavedConfig)) for name in names]
        return [(name, saved) for name, saved in found if saved is not None]

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.msgpack.decode((self._directory / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.error("cannot read the checkpoint %s: %s; its backup is tried", name, error)
            return None

    def _write(self, name: str, content: bytes) -> None:
        """Aside, fsync, keep the one before, rename: a whole value is there at any time."""
        path = self._directory / name
        part, backup = path.with_suffix(".part"), path.with_suffix(".bak")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            spare = path.with_suffix(".old")
            spare.unlink(missing_ok=True)
            os.link(path, spare)
            spare.rename(backup)
        part.rename(path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
