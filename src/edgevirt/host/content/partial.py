"""A file that arrives in pieces, over restarts and power cuts: `NAME.part`, then `NAME`."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from edgevirt.host.files import sync_directory

_FULL = {errno.ENOSPC, errno.EDQUOT}
_PIECE = 1024 * 1024
_MEDIA_TYPE = "user.mime_type"
"""Where the freedesktop.org convention keeps it."""


class DiskFull(Exception):
    """«cannot write X: why». What was written is kept."""


class Partial:
    """Nothing here looks at the content. Others may read the whole file, by group."""

    def __init__(self, directory: Path, name: str) -> None:
        self.whole = directory / name
        self._part = directory / f"{name}.part"

    def whole_size(self) -> int | None:
        """None while it isn't whole."""
        return _size(self.whole)

    def size(self) -> int:
        """Bytes of the part."""
        return _size(self._part) or 0

    def discard(self) -> None:
        for path in (self._part, self.whole):
            with suppress(FileNotFoundError):
                path.unlink()

    @asynccontextmanager
    async def append(self, offset: int) -> AsyncIterator[PartWriter]:
        """Writes from `offset` on; what was there from that on is dropped."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        writer = PartWriter(os.open(self._part, flags, 0o640), offset)
        try:
            yield writer
            await writer.flush()
        finally:
            await writer.close()

    async def finish(self, media_type: str = "") -> None:
        """All bytes are there: makes them durable, then gives them their name."""
        await asyncio.to_thread(self._finish, media_type)

    def media_type(self) -> str:
        """As given to `finish`; empty where the file system can't keep it."""
        with suppress(OSError):
            return os.getxattr(self.whole, _MEDIA_TYPE).decode(errors="replace")
        return ""

    def _finish(self, media_type: str) -> None:
        descriptor = os.open(self._part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if media_type:
                with suppress(OSError):
                    os.setxattr(descriptor, _MEDIA_TYPE, media_type[:200].encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(self._part, self.whole)
        sync_directory(self.whole.parent)


class PartWriter:
    """Collects small chunks and writes big pieces, in a thread."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self.size = offset
        """Bytes of the file, those that wait to be written included."""
        self._descriptor = descriptor
        self._pending = bytearray()
        self._writing: asyncio.Future[None] | None = None
        os.ftruncate(descriptor, offset)
        os.lseek(descriptor, offset, os.SEEK_SET)

    async def write(self, chunk: bytes) -> None:
        """Raises DiskFull."""
        self._pending += chunk
        self.size += len(chunk)
        if len(self._pending) >= _PIECE:
            await self.flush()

    async def flush(self) -> None:
        if self._pending:
            piece, self._pending = self._pending, bytearray()
            work = asyncio.to_thread(_write_all, self._descriptor, piece)
            self._writing = asyncio.ensure_future(work)
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """What is collected is written too. A thread that writes keeps its descriptor."""
        writing = self._writing
        if writing is not None and not writing.done():
            await asyncio.wait({writing})
        try:
            with suppress(DiskFull):
                _write_all(self._descriptor, self._pending)
        finally:
            os.close(self._descriptor)


def _write_all(descriptor: int, piece: bytearray) -> None:
    rest = memoryview(piece)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except OSError as failure:
            if failure.errno in _FULL:
                raise DiskFull(f"cannot write: {failure.strerror}") from failure
            raise


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def names_in(directory: Path) -> Iterator[str]:
    """Names of the files in `directory`, whole or in part."""
    if directory.is_dir():
        yield from {path.name.removesuffix(".part") for path in directory.iterdir()}
