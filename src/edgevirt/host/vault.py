"""A directory whose content is encrypted on disk, with a key that is given at each start.

fscrypt of the kernel, version 2 policies: AES-256-XTS for contents, AES-256-CTS for names
(https://docs.kernel.org/filesystems/fscrypt.html). No right is needed but to own the directory.
While the key is away the directory can be listed, with unreadable names, and not read or written.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

_MODE: Final = 0o711
KEY_SIZE: Final = 32
"""Bytes of a vault's key."""
_IDENTIFIER_SIZE: Final = 16


class VaultError(Exception):
    """«cannot X the vault: why»."""


class Unsupported(VaultError):
    """The file system has no encryption."""


class Lock(enum.Enum):
    PLAIN = "plain"
    """Not encrypted."""
    LOCKED = "locked"
    OPEN = "open"
    """Encrypted, and the key is there."""


class Vault(Protocol):
    """One directory. Every call raises VaultError."""

    def state(self) -> Lock:
        """To be asked first: makes the directory if it is missing."""
        ...

    def is_empty(self) -> bool:
        """Whether nothing is in it, be it locked or not."""
        ...

    def was_used(self) -> bool:
        """Whether anything was ever put into it, be it locked or not: anything but directories
        that were marked as new and never written to.
        """
        ...

    def encrypt(self, key: bytes) -> None:
        """For an empty, plain one, which is open afterwards. Durable on return."""
        ...

    def unlock(self, key: bytes) -> bool:
        """False, and locked as before: this is not its key."""
        ...

    def lock(self) -> None:
        """What is in use stays readable to who uses it; else VaultError."""
        ...

    def set_aside(self) -> None:
        """For one that was never used: an empty plain one takes its place; nothing is removed."""
        ...


_NEVER: Final = 0
"""Seconds since 1970: no machine's clock shows that when somebody writes."""


def mark_new(directory: Path) -> None:
    """For a directory just made in the vault: the first change of what is in it takes this away.

    So one can see that it was never used, without the key and without the right to look into it.
    """
    os.utime(directory, (_NEVER, _NEVER))


def any_used(vault: Path) -> bool:
    """Whether there is anything but directories that are as `mark_new` left them."""
    with os.scandir(vault) as found:
        return any(
            not entry.is_dir(follow_symlinks=False)
            or entry.stat(follow_symlinks=False).st_mtime_ns != _NEVER
            for entry in found
        )


# -- the kernel's interface: linux/fscrypt.h -----------------------------------------------------

_SET_POLICY: Final = 0x800C_6613
_GET_POLICY: Final = 0xC009_6616
_ADD_KEY: Final = 0xC050_6617
_REMOVE_KEY: Final = 0xC040_6618
_KEY_STATUS: Final = 0xC080_661A
_BY_IDENTIFIER: Final = 2
_VERSION_2: Final = 2
_AES_256_XTS, _AES_256_CTS, _PAD_32 = 1, 4, 3
_KEY_PRESENT: Final = 2
_STILL_IN_USE: Final = 1
_NO_ENCRYPTION: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOPKG})

_POLICY: Final = struct.Struct(f"4B4x{_IDENTIFIER_SIZE}s")
_NAMED_KEY: Final = struct.Struct(f"II{_IDENTIFIER_SIZE}s16x")
"""struct fscrypt_key_specifier."""


class EncryptedDirectory:
    """Vault on a file system of the kernel's. The calling user must own the directory."""

    def __init__(self, path: Path) -> None:
        """The directory above `path` must be the caller's too."""
        self._path = path

    def state(self) -> Lock:
        with self._failing("make"):
            self._path.mkdir(mode=_MODE, exist_ok=True)
        identifier = self._policy()
        if identifier is None:
            return Lock.PLAIN
        present = self._status(identifier) == _KEY_PRESENT
        return Lock.OPEN if present else Lock.LOCKED

    def is_empty(self) -> bool:
        with self._failing("look into"), os.scandir(self._path) as found:
            return next(iter(found), None) is None

    def was_used(self) -> bool:
        with self._failing("look into"):
            return any_used(self._path)

    def encrypt(self, key: bytes) -> None:
        if self._policy() is not None or not self.is_empty():
            raise VaultError("cannot encrypt the vault: it holds something already")
        identifier = self._add(key)
        policy = _POLICY.pack(_VERSION_2, _AES_256_XTS, _AES_256_CTS, _PAD_32, identifier)
        try:
            self._ask("encrypt", _SET_POLICY, policy)
            with self._failing("encrypt"), self._opened(self._path) as directory:
                os.fsync(directory)
        except VaultError:
            self._remove(identifier)
            raise

    def unlock(self, key: bytes) -> bool:
        wanted = self._policy()
        if wanted is None:
            raise VaultError("cannot unlock the vault: it is not encrypted")
        identifier = self._add(key)
        if identifier != wanted:
            self._remove(identifier)
            return False
        return True

    def lock(self) -> None:
        identifier = self._policy()
        if identifier is None or self._status(identifier) != _KEY_PRESENT:
            return
        if self._remove(identifier) & _STILL_IN_USE:
            raise VaultError("cannot lock the vault: files in it are in use")

    def set_aside(self) -> None:
        if self.was_used():
            raise VaultError("cannot set the vault aside: it was used")
        with self._failing("set aside"):
            number = 1
            while (aside := self._path.with_name(f"{self._path.name}.{number}")).exists():
                number += 1
            self._path.rename(aside)
            self._path.mkdir(mode=_MODE)
            with self._opened(self._path.parent) as parent:
                os.fsync(parent)

    # -- one call each --

    def _policy(self) -> bytes | None:
        """The identifier of its key; None: it is plain."""
        argument = struct.pack("Q24x", _POLICY.size)
        try:
            answer = self._ask("look at", _GET_POLICY, argument)
        except Unsupported:
            return None
        except VaultError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno == errno.ENODATA:
                return None
            raise
        version, _, _, _, identifier = _POLICY.unpack(answer[8:])
        if version != _VERSION_2:
            raise VaultError(f"cannot use the vault: its encryption is of version {version}")
        return bytes(identifier)

    def _add(self, key: bytes) -> bytes:
        """To the file system. Returns the key's identifier."""
        if len(key) != KEY_SIZE:
            raise VaultError(f"cannot use a key of {len(key)} bytes for the vault")
        named = _NAMED_KEY.pack(_BY_IDENTIFIER, 0, bytes(_IDENTIFIER_SIZE))
        answer = self._ask(
            "give a key to", _ADD_KEY, named + struct.pack("II32x", len(key), 0) + key
        )
        return bytes(_NAMED_KEY.unpack(answer[: _NAMED_KEY.size])[2])

    def _remove(self, identifier: bytes) -> int:
        argument = _NAMED_KEY.pack(_BY_IDENTIFIER, 0, identifier) + struct.pack("I20x", 0)
        answer = self._ask("lock", _REMOVE_KEY, argument, self._path.parent)
        return int.from_bytes(answer[_NAMED_KEY.size :][:4], "little")

    def _status(self, identifier: bytes) -> int:
        argument = _NAMED_KEY.pack(_BY_IDENTIFIER, 0, identifier) + bytes(88)
        answer = self._ask("look at", _KEY_STATUS, argument)
        return int.from_bytes(answer[_NAMED_KEY.size + 24 :][:4], "little")

    def _ask(self, what: str, request: int, argument: bytes, at: Path | None = None) -> bytes:
        """`at`: another directory of the file system; an open one of the vault's keeps it open."""
        with self._failing(what), self._opened(at or self._path) as directory:
            return fcntl.ioctl(directory, request, argument)

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield directory
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ENCRYPTION:
                raise Unsupported(
                    f"cannot {what} the vault: its file system has no encryption"
                ) from error
            raise VaultError(f"cannot {what} the vault: {error.strerror}") from error
