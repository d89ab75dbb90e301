"""A layer's uncompressed tar, read once: hashed, counted, and bounded while it is read, so that a
bomb costs no more than its bound.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from edgevirt.host.files import room

HEADER_BYTES = 4 * 1024 * 1024
"""A member's headers (long names, extended attributes) may take so much, and no more memory."""
BLOCK = 256 * 1024
_CHECK_ROOM_EVERY = 8 * 1024 * 1024


class CannotUnpack(Exception):
    """«cannot unpack: why»: the layer itself is bad; another try brings the same."""


class NoRoom(Exception):
    """«cannot unpack: why»: the disk is too full; worth another try."""


class _Gzip(io.RawIOBase):
    """Decompresses gzip, several streams in a row included, with bounded memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = self._rest or self._file.read(BLOCK)
            if self._inflate.eof:
                if not data.strip(b"\0"):  # padding may follow the last stream
                    return 0
                self._inflate = zlib.decompressobj(wbits=31)
            elif not data:
                raise EOFError("the gzip stream is cut off")
            out = self._inflate.decompress(data, len(buffer))
            self._rest = self._inflate.unused_data or self._inflate.unconsumed_tail
            if out:
                buffer[: len(out)] = out
                return len(out)


def _decompressed(file: IO[bytes]) -> tuple[IO[bytes], type[Exception]]:
    """A reader of the tar in `file`, by the compression's own mark, not by what is claimed; and
    what it raises when the stream is damaged."""
    mark = file.read(4)
    file.seek(0)
    if mark[:2] == b"\x1f\x8b":
        return io.BufferedReader(_Gzip(file), 4 * BLOCK), zlib.error
    if mark == b"\x28\xb5\x2f\xfd":
        try:
            from backports import zstd
        except ImportError as missing:
            raise CannotUnpack("cannot unpack: it is compressed with zstd") from missing
        widest = {int(zstd.DecompressionParameter.window_log_max): 27}  # 128 MiB of memory at most
        return io.BufferedReader(zstd.ZstdFile(file, options=widest), 4 * BLOCK), zstd.ZstdError
    return file, EOFError


class LayerStream:
    """The tar that is in `layer`, to be unpacked at `target`; `most` bytes of it."""

    def __init__(
        self, layer: IO[bytes], target: Path, most: int, cancelled: Callable[[], bool]
    ) -> None:
        self._hash = hashlib.sha256()
        self._source, self._damaged = _decompressed(layer)
        self._target = target
        self._most = most
        self._cancelled = cancelled
        self._read = 0
        self._allowed: int | None = None
        self._check_room_at = 0

    @property
    def digest(self) -> str:
        """Of what was read so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def allow(self, bytes_: int | None) -> None:
        """How much may be read until the next call; None: only the limits bound it."""
        self._allowed = bytes_

    def read(self, size: int) -> bytes:
        if self._cancelled():
            raise CannotUnpack("cannot unpack: it is no longer wanted")
        try:
            data = self._source.read(size)
        except (self._damaged, EOFError) as failure:
            raise CannotUnpack(f"cannot unpack: damaged: {failure}") from failure
        self._hash.update(data)
        self._read += len(data)
        if self._read > self._most:
            raise CannotUnpack(f"cannot unpack: it is more than {self._most} bytes")
        if self._allowed is not None:
            self._allowed -= len(data)
            if self._allowed < 0:
                raise CannotUnpack(f"cannot unpack: a header of more than {HEADER_BYTES} bytes")
        self._check_room()
        return data

    def _check_room(self) -> None:
        if self._read < self._check_room_at:
            return
        self._check_room_at = self._read + _CHECK_ROOM_EVERY
        usable = room(self._target).usable
        if usable < _CHECK_ROOM_EVERY:
            raise NoRoom(f"cannot unpack: {usable} bytes are free after {self._read} unpacked")

    def drain(self) -> None:
        """Reads what follows the tar's end mark: it counts for the digest."""
        while self.read(BLOCK):
            pass
