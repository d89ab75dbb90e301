"""A vault in a plain directory: locked, its content is out of reach, and its names are others."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgevirt.host.vault import KEY_SIZE, Lock, Unsupported, VaultError, any_used


class FakeVault:
    """`supported` False: the file system has no encryption.

    What is locked lies in a directory beside it, so that several fakes on one path agree.
    """

    def __init__(self, path: Path, *, supported: bool = True) -> None:
        self._path = path
        self._supported = supported
        self._kept = path.with_name(f".{path.name}.locked")
        self._key = path.with_name(f".{path.name}.key")
        path.mkdir(exist_ok=True)

    def state(self) -> Lock:
        if not self._key.exists():
            return Lock.PLAIN
        return Lock.LOCKED if self._kept.exists() else Lock.OPEN

    def is_empty(self) -> bool:
        return not any(self._content.iterdir())

    def was_used(self) -> bool:
        return any_used(self._content)

    def encrypt(self, key: bytes) -> None:
        named = _name(key)
        if self.state() is not Lock.PLAIN or not self.is_empty():
            raise VaultError("cannot encrypt the vault: it holds something already")
        if not self._supported:
            raise Unsupported("cannot encrypt the vault: its file system has no encryption")
        self._key.write_bytes(named)

    def unlock(self, key: bytes) -> bool:
        if self.state() is Lock.PLAIN:
            raise VaultError("cannot unlock the vault: it is not encrypted")
        if self._key.read_bytes() != _name(key):
            return False
        if self._kept.exists():
            self._path.rmdir()
            self._kept.rename(self._path)
        return True

    def lock(self) -> None:
        if self.state() is Lock.OPEN:
            self._path.rename(self._kept)
            self._path.mkdir()

    def set_aside(self) -> None:
        if self.was_used():
            raise VaultError("cannot set the vault aside: it was used")
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.{number}")).exists():
            number += 1
        self._content.rename(aside)
        self._path.mkdir(exist_ok=True)
        self._key.unlink(missing_ok=True)

    @property
    def _content(self) -> Path:
        return self._kept if self._kept.exists() else self._path


def _name(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        raise VaultError(f"cannot use a key of {len(key)} bytes for the vault")
    return hashlib.sha256(key).digest()
