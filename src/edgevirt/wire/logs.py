"""Log bundles: one gzip member each, its header saying whose lines they are.

A node names itself in the header's comment, an app goes into the header's name. The body holds one
JSON object per line in the form that Go's encoding/json gives a log entry: numbers as numbers, the
time as seconds and nanoseconds. Peers refuse the form that protobuf prescribes for JSON.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

import msgspec

from edgevirt.wire.errors import Reason, WireError
from edgevirt.wire.limits import LOG_BUNDLE_TARGET

MAX_LINE: Final = 32_768
"""Bytes of one encoded entry; cut the content of a longer one."""

_MAX_HEADER: Final = 4_096
_MAX_NAME: Final = 255
_NODE_NAMES: Final = {"dev_id": "devID", "version": "eveVersion"}
_MAGIC: Final = b"\x1f\x8b\x08"
_FIXED_HEADER: Final = struct.Struct("<3sBIBB")  # magic, flags, time, compression, system
_TRAILER: Final = struct.Struct("<II")  # checksum, size
_EXTRA_FLAG, _NAME_FLAG, _COMMENT_FLAG = 4, 8, 16
_UNKNOWN_SYSTEM: Final = 255
_GZIP_WINDOW: Final = 31
_RAW_WINDOW: Final = -15
_MARGIN: Final = 64  # bytes that a flush, the last block and the trailer may add
_EXPANSION: Final = 1000  # incompressible input grows by less than one part in this many


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Nanos = Annotated[int, msgspec.Meta(ge=0, lt=10**9)]


class LogsError(WireError):
    """A log bundle that cannot be accepted, or an entry that does not fit into one."""


class Moment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A time since 1970, in UTC."""

    seconds: _Count = 0
    nanos: _Nanos = 0


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `msgid` grows by one within a source, so that a gap tells a loss."""

    severity: str = ""
    source: str = ""
    iid: str = ""
    content: str = ""
    msgid: _Count = 0
    tags: Mapping[str, str] = {}
    timestamp: Moment = Moment()
    filename: str = ""
    function: str = ""


class NodeHeader(msgspec.Struct, frozen=True, omit_defaults=True, rename=_NODE_NAMES):
    """Whose lines, from which root partition (IMGA or IMGB), of which OS version."""

    dev_id: str = ""
    image: str = ""
    version: str = ""


class AppHeader(msgspec.Struct, frozen=True):
    """The app's display name."""

    name: str = ""


class Bundle(msgspec.Struct, frozen=True):
    """A bundle taken apart; `body` holds the lines as they came, `entries` decodes them.

    `created` is in seconds since 1970, 0 where it is not known.
    """

    header: NodeHeader | AppHeader
    created: int
    body: bytes


class ServerMetrics(msgspec.Struct, frozen=True, omit_defaults=True):
    """The controller's optional answer to a bundle, by which a node may slow down."""

    cpu_percentage: float = 0.0
    log_process_delay_msec: int = 0


class BundleWriter:
    """Fills one bundle up to a target size that it never exceeds.

    What the compressor still holds back is bounded from above; only when that bound reaches the
    target is it flushed, to learn what it really takes. `created` is in seconds since 1970;
    `target`, in bytes, leaves room for one entry of MAX_LINE.
    """

    def __init__(
        self, header: NodeHeader | AppHeader, created: int, target: int = LOG_BUNDLE_TARGET
    ) -> None:
        if target < _MAX_HEADER + MAX_LINE + _MARGIN:
            raise LogsError(Reason.TOO_LARGE, "cannot bundle logs: target below one entry's size")
        self._deflate = zlib.compressobj(wbits=_RAW_WINDOW)
        self._chunks = [_encode_header(header, created)]
        self._written = len(self._chunks[0])
        self._unflushed = 0
        self._checksum = 0
        self._size = 0
        self._room = target - _MARGIN

    def add(self, entry: LogEntry) -> bool:
        """Take an entry in, or leave it and say False: then it is for the next bundle.

        Raises LogsError for an entry that no bundle takes, being longer than MAX_LINE.
        """
        line = _encode_entry(entry)
        if not self._fits(line) and (not self._unflushed or not self._fits_flushed(line)):
            return False
        self._emit(self._deflate.compress(line))
        self._unflushed += len(line)
        self._checksum = zlib.crc32(line, self._checksum)
        self._size += len(line)
        return True

    def finish(self) -> bytes:
        """The bundle; the writer is used up."""
        self._emit(self._deflate.flush())
        self._emit(_TRAILER.pack(self._checksum, self._size & 0xFFFFFFFF))
        return b"".join(self._chunks)

    def _fits(self, line: bytes) -> bool:
        unflushed = self._unflushed + len(line)
        return self._written + unflushed + unflushed // _EXPANSION <= self._room

    def _fits_flushed(self, line: bytes) -> bool:
        self._emit(self._deflate.flush(zlib.Z_SYNC_FLUSH))
        self._unflushed = 0
        return self._fits(line)

    def _emit(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._written += len(chunk)


def unpack_node(raw: bytes, max_size: int, max_body: int) -> Bundle:
    """Take a node's bundle apart; sizes in bytes, packed and unpacked.

    Raises LogsError for what is no single whole gzip member, or one without the node's comment.
    """
    created, _, comment = _read_header(raw, max_size)
    if comment is None:
        raise LogsError(Reason.MALFORMED, "cannot read logs: the header has no comment")
    try:
        header = _decode_node(comment)
    except _UNREADABLE as error:
        raise LogsError(Reason.MALFORMED, f"cannot read logs: header: {error}") from error
    return Bundle(header, created, _inflate(raw, max_body))


def unpack_app(raw: bytes, max_size: int, max_body: int) -> Bundle:
    """Take an app's bundle apart; a name that Latin-1 cannot spell comes with escapes."""
    created, name, _ = _read_header(raw, max_size)
    header = AppHeader((name or b"").decode("latin-1"))
    return Bundle(header, created, _inflate(raw, max_body))


def entries(bundle: Bundle) -> Iterator[LogEntry]:
    """Decode the lines one by one; raises LogsError when it comes to a bad one."""
    start, number, body = 0, 0, bundle.body
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        number += 1
        if end > start:
            yield _decode_line(body[start:end], number)
        start = end + 1


def encode_metrics(metrics: ServerMetrics) -> bytes:
    return msgspec.json.encode(metrics)


def decode_metrics(raw: bytes) -> ServerMetrics:
    """An empty answer means that the controller says nothing."""
    try:
        return _decode_metrics(raw) if raw else ServerMetrics()
    except _UNREADABLE as error:
        raise LogsError(Reason.MALFORMED, f"cannot read server metrics: {error}") from error


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encode: Final = msgspec.json.Encoder().encode
_decode_entry: Final = msgspec.json.Decoder(LogEntry).decode
_decode_node: Final = msgspec.json.Decoder(NodeHeader).decode
_decode_metrics: Final = msgspec.json.Decoder(ServerMetrics).decode


def _encode_entry(entry: LogEntry) -> bytes:
    try:
        line = _encode(entry) + b"\n"
    except UnicodeEncodeError as error:
        raise LogsError(Reason.MALFORMED, f"cannot log entry: {error}") from error
    if len(line) > MAX_LINE:
        raise LogsError(
            Reason.TOO_LARGE, f"cannot log entry: {len(line)} bytes, at most {MAX_LINE} fit"
        )
    return line


def _decode_line(line: bytes, number: int) -> LogEntry:
    try:
        return _decode_entry(line)
    except _UNREADABLE as error:
        raise LogsError(Reason.MALFORMED, f"cannot read logs: line {number}: {error}") from error


def _encode_header(header: NodeHeader | AppHeader, created: int) -> bytes:
    """The header of RFC 1952; its texts are Latin-1, so JSON is kept to ASCII."""
    if isinstance(header, NodeHeader):
        comment = json.dumps(msgspec.to_builtins(header), separators=(",", ":"))
        flags, text = _COMMENT_FLAG, comment.encode("ascii")
    else:
        name = header.name.replace("\0", "").encode("latin-1", "backslashreplace")
        flags, text = _NAME_FLAG, name[:_MAX_NAME]
    fixed = _FIXED_HEADER.pack(_MAGIC, flags, created & 0xFFFFFFFF, 0, _UNKNOWN_SYSTEM)
    if len(fixed) + len(text) >= _MAX_HEADER:
        raise LogsError(Reason.TOO_LARGE, "cannot bundle logs: the node's names are too long")
    return fixed + text + b"\0"


def _read_header(raw: bytes, max_size: int) -> tuple[int, bytes | None, bytes | None]:
    """Time, name and comment; only texts are taken from here, zlib judges the rest."""
    if len(raw) > max_size:
        raise LogsError(
            Reason.TOO_LARGE, f"cannot read logs: {len(raw)} bytes, at most {max_size} allowed"
        )
    if len(raw) < _FIXED_HEADER.size or not raw.startswith(_MAGIC):
        raise LogsError(Reason.MALFORMED, "cannot read logs: no gzip header")
    _, flags, created, _, _ = _FIXED_HEADER.unpack_from(raw)
    position = _FIXED_HEADER.size
    if flags & _EXTRA_FLAG:
        position += 2 + int.from_bytes(raw[position : position + 2], "little")
    name = comment = None
    if flags & _NAME_FLAG:
        name, position = _read_text(raw, position)
    if flags & _COMMENT_FLAG:
        comment, position = _read_text(raw, position)
    return created, name, comment


def _read_text(raw: bytes, start: int) -> tuple[bytes, int]:
    end = raw.find(b"\0", start, start + _MAX_HEADER)
    if end < 0:
        raise LogsError(Reason.MALFORMED, "cannot read logs: a text of the header has no end")
    return raw[start:end], end + 1


def _inflate(raw: bytes, max_body: int) -> bytes:
    inflater = zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        body = inflater.decompress(raw, max_body + 1)
    except zlib.error as error:
        raise LogsError(Reason.MALFORMED, f"cannot read logs: {error}") from error
    if len(body) > max_body:
        raise LogsError(
            Reason.TOO_LARGE, f"cannot read logs: more than {max_body} bytes when unpacked"
        )
    if not inflater.eof:
        raise LogsError(Reason.MALFORMED, "cannot read logs: the bundle is cut short")
    if inflater.unused_data:
        raise LogsError(Reason.MALFORMED, "cannot read logs: something follows the bundle")
    return body
