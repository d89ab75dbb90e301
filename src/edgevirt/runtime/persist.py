"""Values that survive everything: one file each, written whole.

A file is written beside its place, synced, renamed into it, and the directory synced; the one
before is kept as `.prev`. At every moment the place holds a whole old or a whole new value. What is
damaged later (by the disk) falls back to `.prev`, and says so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from logging import Logger
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from edgevirt.runtime.resource import Kind
from edgevirt.runtime.store import StoreError

T = TypeVar("T")

MAGIC = b"edgevirt value 1\n"
_DIGEST = hashlib.sha256().digest_size
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST = 200
RESERVED = 1 << 32
"""Versions are reserved in such blocks, one at each start: none is ever given twice."""

_VERSIONS = ".versions"


class Record(msgspec.Struct, array_like=True, frozen=True):
    """`live` False: the key was deleted, and its files are about to go."""

    key: str
    version: int
    live: bool
    value: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)
_NOTHING = msgspec.Raw(b"\xc0")


class Damaged(Exception):
    """A file does not hold what was written."""


class Kept(msgspec.Struct, Generic[T], frozen=True):
    """Values by key with their versions, and the version to go on from."""

    values: dict[str, tuple[int, T]]
    version: int


def file_name(key: str) -> str:
    """A name for any key: no `.` (our suffixes), no `/`, not too long; distinct for each key."""
    name = "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}"
        for byte in key.encode("utf-8", "surrogatepass")
    )
    if len(name) > _LONGEST:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{name[: _LONGEST - 80]}~{digest}"
    return name or "%"


class Directory(Generic[T]):
    """One persistent kind's files. Blocking; meant for a thread of its own.

    `step` is told the name of each step before it is taken: for fault injection.
    """

    def __init__(
        self, path: Path, kind: Kind[T], log: Logger, *, step: Callable[[str], None] | None = None
    ) -> None:
        self._path = path
        self._kind = kind
        self._log = log
        self._step = step or (lambda name: None)

    def load(self) -> Kept[T]:
        """All that is there. Finishes what a crash left half done."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {entry.name for entry in self._path.iterdir() if not entry.name.startswith(".")}
        values: dict[str, tuple[int, T]] = {}
        newest = 0
        for stem in sorted({name.partition(".")[0] for name in names}):
            record = self._recover(stem, names)
            if record is None:
                continue
            newest = max(newest, record.version)
            if record.live:
                values[record.key] = (record.version, self._kind.decode(record.value))
            else:
                self._sweep(stem)
        return Kept(values, self._reserve(newest))

    def put(self, key: str, version: int, value: bytes) -> None:
        """Durable on return. Raises StoreError; then the place holds the old value or the new."""
        try:
            self._write(file_name(key), Record(key, version, True, msgspec.Raw(value)))
        except OSError as error:
            raise StoreError(f"cannot keep {self._kind.name} {key!r}: {error}") from error

    def delete(self, key: str, version: int) -> None:
        """Durable on return. A mark of the deletion comes first, so that `.prev` cannot revive."""
        stem = file_name(key)
        try:
            self._write(stem, Record(key, version, False, _NOTHING), keep=False)
            self._sweep(stem)
        except OSError as error:
            raise StoreError(f"cannot delete {self._kind.name} {key!r}: {error}") from error

    def _write(self, stem: str, record: Record, *, keep: bool = True) -> None:
        place = self._path / stem
        fresh = self._path / f"{stem}.new"
        payload = _encoder.encode(record)
        self._step("create")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._step("write")
            _write_all(fd, MAGIC + hashlib.sha256(payload).digest())
            self._step("write")
            _write_all(fd, payload)
            self._step("fsync")
            os.fsync(fd)
        finally:
            os.close(fd)
        if keep:
            self._keep(stem)
        self._step("rename")
        os.rename(fresh, place)
        self._step("fsync directory")
        self._sync()

    def _keep(self, stem: str) -> None:
        """The present file becomes `.prev`, and stays in its place until it is replaced."""
        link = self._path / f"{stem}.link"
        self._step("unlink")
        link.unlink(missing_ok=True)
        self._step("link")
        try:
            os.link(self._path / stem, link)
        except FileNotFoundError:
            return
        self._step("rename")
        os.rename(link, self._path / f"{stem}.prev")

    def _sweep(self, stem: str) -> None:
        """Ends a deletion: `.prev` first, and surely, before the mark that it is obsolete."""
        self._step("unlink")
        (self._path / f"{stem}.prev").unlink(missing_ok=True)
        self._step("fsync directory")
        self._sync()
        self._step("unlink")
        (self._path / stem).unlink(missing_ok=True)

    def _recover(self, stem: str, names: set[str]) -> Record | None:
        """The value in its place, else the one before; what is damaged is said and set aside."""
        for suffix in (".new", ".link"):
            if stem + suffix in names:
                (self._path / f"{stem}{suffix}").unlink()
        place, previous = self._path / stem, self._path / f"{stem}.prev"
        if place.name not in names and previous.name not in names:
            return None
        try:
            return self._read_value(place)
        except (Damaged, OSError) as error:
            why = error
        try:
            record = self._read_value(previous)
        except (Damaged, OSError) as error:
            self._log.error(
                "%s: cannot read %s (%s) nor %s (%s); set aside as .corrupt",
                self._kind.name, place, why, previous, error,
            )  # fmt: skip
            self._set_aside(place, previous)
            return None
        self._log.warning(
            "%s: cannot read %s (%s); the value before it is used, from %s",
            self._kind.name, place, why, previous,
        )  # fmt: skip
        self._set_aside(place)
        self._write(stem, record, keep=False)  # anew: two names of one file fail as one
        return record

    def _read_value(self, path: Path) -> Record:
        record = _read(path)
        try:
            if record.live:
                self._kind.decode(record.value)
        except msgspec.MsgspecError as error:
            raise Damaged(f"not a value of this kind: {error}") from error
        if file_name(record.key) != path.name.partition(".")[0]:
            raise Damaged(f"holds the key {record.key!r}")
        return record

    def _set_aside(self, *paths: Path) -> None:
        for path in paths:
            if path.exists():
                os.rename(path, path.with_name(f"{path.name}.corrupt"))
        self._sync()

    def _reserve(self, newest: int) -> int:
        """A block of versions above every one that was given: its first, less one."""
        try:
            base = max(_read(self._path / _VERSIONS).version, newest)
        except FileNotFoundError:
            base = newest + RESERVED if newest else 0
        except Damaged as error:
            base = newest + RESERVED
            self._log.warning("%s: cannot read %s (%s)", self._kind.name, _VERSIONS, error)
        self._write(_VERSIONS, Record("", base + RESERVED, False, _NOTHING), keep=False)
        return base

    def _sync(self) -> None:
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _read(path: Path) -> Record:
    data = path.read_bytes()
    start = len(MAGIC) + _DIGEST
    payload = data[start:]
    if data[: len(MAGIC)] != MAGIC:
        raise Damaged("no such header" if data else "empty")
    if hashlib.sha256(payload).digest() != data[len(MAGIC) : start]:
        raise Damaged("wrong checksum")
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise Damaged(str(error)) from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
