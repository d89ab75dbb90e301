"""Bytes of a binary form, read front to back and never past their end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any


class Reader:
    """`cut_short`: makes what is raised where there are fewer bytes than were asked for."""

    def __init__(self, data: bytes, cut_short: Callable[[], Exception]) -> None:
        self._data = data
        self._position = 0
        self._cut_short = cut_short

    @property
    def left(self) -> int:
        """Bytes."""
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise self._cut_short()
        part = self._data[self._position : self._position + size]
        self._position += size
        return part

    def unpack(self, form: str) -> tuple[Any, ...]:
        """As `struct` has it."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def sized(self) -> bytes:
        """A TPM2B: two bytes of size, big-endian, then so many."""
        (size,) = self.unpack(">H")
        return self.take(size)
