"""GRUB's environment block: how Linux and the boot loader tell each other which slot is what.

1024 bytes: a first line, `NAME=value` lines, then `#` to the end. What matters stands in the first
512 bytes, so that one sector's write changes all of it at once. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SIZE: Final = 1024
SECTOR: Final = 512
_FIRST: Final = b"# GRUB Environment Block\n"


class BlockError(Exception):
    """«cannot X: why»."""


def parse(block: bytes) -> dict[str, str]:
    """Raises BlockError for what GRUB would not load either."""
    if len(block) < SECTOR or not block.startswith(_FIRST):
        raise BlockError("cannot read the slots' states: the environment block is damaged")
    found = {}
    for line in block[len(_FIRST) :].split(b"\n"):
        if line.startswith(b"#"):
            break
        name, equals, value = line.partition(b"=")
        if equals:
            found[name.decode(errors="replace")] = value.decode(errors="replace")
    return found


def render(variables: Mapping[str, str]) -> bytes:
    """A whole block, whose second half is filling. Raises BlockError when it does not fit."""
    lines = b"".join(f"{name}={value}\n".encode() for name, value in variables.items())
    if len(_FIRST) + len(lines) > SECTOR:
        raise BlockError("cannot write the slots' states: they do not fit into one sector")
    return (_FIRST + lines).ljust(SIZE, b"#")
