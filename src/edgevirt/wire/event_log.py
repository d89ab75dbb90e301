"""What was measured into a machine's registers, in the TCG's binary form, and what that makes.

TCG PC Client Platform Firmware Profile, 10: a head that names the hashes in use, then one record
for each measurement, little-endian. Firmware writes it; the node appends what it measured itself,
so that one replay explains all registers. A log is a claim: only a quote of the registers proves
it, and only a digest that is the event's own hash proves the event's text.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from edgevirt.wire.binary import Reader
from edgevirt.wire.errors import Reason, WireError

SHA256: Final = 0x000B
_SHA1: Final = 0x0004
_SIZES: Final = {_SHA1: 20, SHA256: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32}
"""Of digests, by TPM_ALG_ID."""
NO_ACTION: Final = 0x03
"""Told, not measured."""
IPL: Final = 0x0D
"""Of a boot loader and what comes after it."""
_SIGNATURE: Final = b"Spec ID Event03\0"
_LOCALITY: Final = b"StartupLocality\0"
_REGISTERS: Final = 24
SIZE_MAX: Final = 4 << 20
"""Bytes of a whole log."""
_EVENTS_MAX: Final = 10_000
_DIGESTS_MAX: Final = 16


class EventLogError(WireError):
    """A log that cannot be read."""


class Event(msgspec.Struct, frozen=True):
    """`digest`: SHA-256; empty: the record has none."""

    register: int
    kind: int
    digest: bytes
    data: bytes

    @property
    def is_own_hash(self) -> bool:
        """Whether the digest is that of `data`: then the text is as good as the digest."""
        return hmac.compare_digest(hashlib.sha256(self.data).digest(), self.digest)


def read(log: bytes) -> list[Event]:
    """The measurements in order; the head is left out. Raises EventLogError."""
    if len(log) > SIZE_MAX:
        raise _unreadable(f"{len(log)} bytes")
    reader = _reader(log)
    sizes = _read_head(reader)
    events: list[Event] = []
    while reader.left:
        if len(events) == _EVENTS_MAX:
            raise _unreadable(f"more than {_EVENTS_MAX} events")
        events.append(_read_event(reader, sizes))
    return events


def replay(events: Iterable[Event]) -> dict[int, bytes]:
    """What the registers of the SHA-256 bank hold after these events; those that had any."""
    values: dict[int, bytes] = {}
    for event in events:
        if event.kind == NO_ACTION:
            if event.register == 0 and event.data[:-1] == _LOCALITY and 0 not in values:
                values[0] = bytes(31) + event.data[-1:]
        elif event.digest:
            before = values.get(event.register, bytes(32))
            values[event.register] = hashlib.sha256(before + event.digest).digest()
    return values


def append(log: bytes, events: Iterable[Event]) -> bytes:
    """`log` may be empty: then it gets a head. Only SHA-256 digests are written."""
    return (log or HEAD) + b"".join(_write_event(event) for event in events)


def _write_event(event: Event) -> bytes:
    head = struct.pack("<IIIH", event.register, event.kind, 1, SHA256)
    return head + event.digest + struct.pack("<I", len(event.data)) + event.data


def _head() -> bytes:
    """TCG_EfiSpecIDEvent of a PC client, for one hash, in a record of the old form."""
    names = struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 1) + struct.pack("<HH", SHA256, 32)
    event = _SIGNATURE + names + b"\0"
    return struct.pack("<II20sI", 0, NO_ACTION, bytes(20), len(event)) + event


HEAD: Final = _head()
"""A log without events."""


def _read_head(reader: Reader) -> dict[int, int]:
    """Sizes of digests by algorithm."""
    _, kind, _ = reader.unpack("<II20s")
    (size,) = reader.unpack("<I")
    event = _reader(reader.take(size))
    if kind != NO_ACTION or event.take(len(_SIGNATURE)) != _SIGNATURE:
        raise _unreadable("it is not in the form with several hashes")
    event.unpack("<IBBBB")
    (count,) = event.unpack("<I")
    if not 0 < count <= _DIGESTS_MAX:
        raise _unreadable(f"{count} hashes")
    sizes = dict(_SIZES)
    for _ in range(count):
        algorithm, size = event.unpack("<HH")
        sizes[algorithm] = size
    return sizes


def _read_event(reader: Reader, sizes: dict[int, int]) -> Event:
    register, kind, count = reader.unpack("<III")
    if register >= _REGISTERS and kind != NO_ACTION:
        raise _unreadable(f"register {register}")
    if count > _DIGESTS_MAX:
        raise _unreadable(f"{count} digests of one event")
    digest = b""
    for _ in range(count):
        (algorithm,) = reader.unpack("<H")
        if algorithm not in sizes:
            raise _unreadable(f"hash {algorithm:#x}")
        found = reader.take(sizes[algorithm])
        if algorithm == SHA256:
            digest = found
    (size,) = reader.unpack("<I")
    return Event(register, kind, digest, reader.take(size))


def _unreadable(why: str) -> EventLogError:
    return EventLogError(Reason.MALFORMED, f"cannot read event log: {why}")


def _reader(data: bytes) -> Reader:
    return Reader(data, lambda: _unreadable("it is cut short"))
