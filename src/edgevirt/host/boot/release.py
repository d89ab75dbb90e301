"""Which operating system runs: `/etc/edgevirt-release` of the root image."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

RELEASE: Final = Path("/etc/edgevirt-release")


class Release(msgspec.Struct, frozen=True):
    """As the builder wrote it; it may say more."""

    version: str
    variant: str = ""
    arch: str = ""


def read_release(path: Path = RELEASE) -> Release:
    """Raises OSError, ValueError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Release)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
