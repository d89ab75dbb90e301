"""What goes over a kind's socket: length-prefixed MessagePack, from the owner to the reader only.

A reader connects and listens; the kernel tells the owner who it is. No I/O here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

MAX_VALUE = 64 << 20
"""Bytes of one encoded value. Far above what a value should be; a bound, not a size to use."""

_MAX_FRAME = MAX_VALUE + (1 << 20)
MAX_KEY = 1 << 16
"""Bytes of a key in UTF-8."""

PUT, GONE, IN_STEP, DENIED = 1, 2, 3, 4

NOTHING = msgspec.Raw(b"\xc0")

_length = struct.Struct("<I")


class Frame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`key` carries the reason of a DENIED; `value` is there in a PUT alone."""

    type: int
    key: str
    version: int
    value: msgspec.Raw = NOTHING


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


class BadFrame(Exception):
    """The peer does not speak this protocol. The connection is of no use any more."""


def raw(data: bytes) -> msgspec.Raw:
    """`data` is MessagePack already."""
    return msgspec.Raw(data)


def encode(frame: Frame) -> bytes:
    buffer = bytearray(4)
    _encoder.encode_into(frame, buffer, 4)
    _length.pack_into(buffer, 0, len(buffer) - 4)
    return bytes(buffer)


class Splitter:
    """Cuts a byte stream into frames, whatever its chunks."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._need = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Raises BadFrame. A frame's value refers to `data`: decode it before the next one."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        view = memoryview(data)
        start, end = 0, len(data)
        while end - start >= 4:
            (size,) = _length.unpack_from(data, start)
            if size > _MAX_FRAME:
                raise BadFrame(f"a frame of {size} bytes")
            if end - start - 4 < size:
                self._need = 4 + size
                break
            try:
                yield _decoder.decode(view[start + 4 : start + 4 + size])
            except msgspec.MsgspecError as error:
                raise BadFrame(str(error)) from error
            start += 4 + size
        else:
            self._need = 4
        self._rest += view[start:]
