"""The vault's key on the disk: sealed, at most two copies. And whether the vault is new."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from edgevirt.host.tpm.protocol import Sealed
from edgevirt.node.trust import files

_log = logging.getLogger(__name__)
COPIES = 2


class SealedKeys:
    """`directory`: this service's own. Nothing here is a secret: only the TPM can read it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "vault.sealed"
        self._mark = directory / "allow-vault-clean"

    def load(self) -> tuple[Sealed, ...]:
        """The newest first. What cannot be read counts as lost: the controller keeps a copy."""
        try:
            return msgspec.msgpack.decode(self._file.read_bytes(), type=tuple[Sealed, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("cannot read the sealed key of the vault: %s", error)
            return ()

    def save(self, copies: tuple[Sealed, ...]) -> None:
        """Durable on return."""
        files.write(self._file, msgspec.msgpack.encode(copies[:COPIES]))

    @property
    def is_new(self) -> bool:
        """The vault was made and never used: what is lost with it is nothing."""
        return self._mark.exists()

    def mark_new(self) -> None:
        files.write(self._mark, b"")

    def mark_used(self) -> None:
        if self.is_new:
            files.remove(self._mark)
