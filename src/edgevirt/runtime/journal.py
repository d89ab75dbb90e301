"""Values that outlive their owner's process, not the node's run.

An owner that crashes and starts again must not look to its readers as if it had withdrawn all that
it said. So each change of a kind that is not persistent is appended to a file in the run directory;
no fsync: a killed process loses nothing that the kernel has. One `write` of what changed; the file
is rewritten when it has doubled.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable
from logging import Logger
from pathlib import Path

import msgspec

from edgevirt.runtime.store import StoreError

_header = struct.Struct("<II")

SMALL = 1 << 20
"""Bytes below which rewriting is not worth it."""

LEAP = 1 << 32
"""How far versions jump when it is not known what the last one was."""


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    key: str
    version: int
    live: bool
    value: msgspec.Raw


NOTHING = msgspec.Raw(b"\xc0")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


class Loaded(msgspec.Struct, frozen=True):
    """What was kept: encoded values by key, and a version that none is above."""

    values: dict[str, tuple[int, bytes]]
    version: int


class Journal:
    """One kind's. Only its owner opens it; the file belongs to the owner's user, mode 600."""

    def __init__(self, path: Path, log: Logger) -> None:
        self._path = path
        self._log = log
        self._fd = _open(path)
        self._size = 0
        self._limit = SMALL

    def load(self) -> Loaded:
        """A torn end (the process was killed in the middle) is cut off and said."""
        with open(self._fd, "rb", closefd=False) as file:
            data = file.read()
        values: dict[str, tuple[int, bytes]] = {}
        version = 0
        end = 0
        while (record := _read(data, end)) is not None:
            end += _header.size + record[1]
            version = max(version, record[0].version)
            values.pop(record[0].key, None)
            if record[0].live:
                values[record[0].key] = (record[0].version, bytes(record[0].value))
        if end < len(data):
            self._log.warning("%s: cut off %d torn bytes", self._path, len(data) - end)
            os.ftruncate(self._fd, end)
            version += LEAP
        self._size = end
        self._limit = max(SMALL, 2 * end)
        return Loaded(values, version)

    def put(self, key: str, version: int, value: bytes) -> None:
        """Raises StoreError when it cannot be kept (the disk is full); then nothing changed."""
        self._append(_encode(Record(key, version, True, msgspec.Raw(value))))

    def delete(self, key: str, version: int) -> None:
        self._append(_encode(Record(key, version, False, NOTHING)))

    @property
    def bloated(self) -> bool:
        """Worth a `rewrite`."""
        return self._size > self._limit

    def rewrite(self, values: Iterable[tuple[str, int, bytes]], version: int) -> None:
        """Replaces all by what is present; `version` is remembered even if nothing has it."""
        fresh = self._path.with_suffix(".rewrite")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = _write(fd, _encode(Record("", version, False, NOTHING)))
            for key, number, value in values:
                size += _write(fd, _encode(Record(key, number, True, msgspec.Raw(value))))
            os.rename(fresh, self._path)
        except OSError as error:
            os.close(fd)
            fresh.unlink(missing_ok=True)
            self._limit = 2 * self._size
            self._log.warning("cannot rewrite %s: %s; it grows on", self._path, error)
            return
        os.close(self._fd)
        self._fd, self._size = fd, size
        self._limit = max(SMALL, 2 * size)

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, record: bytes) -> None:
        try:
            self._size += _write(self._fd, record)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise StoreError(f"cannot keep a value in {self._path}: {error}") from error


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise StoreError(f"cannot keep values in {path}: {error}") from error
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise StoreError(f"cannot keep values in {path}: somebody else made it")
    return fd


def _encode(record: Record) -> bytes:
    payload = _encoder.encode(record)
    return _header.pack(len(payload), zlib.crc32(payload)) + payload


def _read(data: bytes, start: int) -> tuple[Record, int] | None:
    """The record at `start` and its payload's length; None when there is no whole one."""
    if len(data) - start < _header.size:
        return None
    length, checksum = _header.unpack_from(data, start)
    payload = memoryview(data)[start + _header.size : start + _header.size + length]
    if len(payload) < length or zlib.crc32(payload) != checksum:
        return None
    try:
        return _decoder.decode(payload), length
    except msgspec.MsgspecError:
        return None


def _write(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)
