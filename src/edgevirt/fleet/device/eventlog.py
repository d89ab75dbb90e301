"""A machine's event log: what its firmware and boot loader say that they measured. Pure.

The log proves nothing by itself. Replayed, it must come to the registers that the security module
signed; then it tells what they are made of. The form is TCG's crypto-agile one (PC Client Platform
Firmware Profile, 10.4.5): little-endian, a first event of the old form that lists the banks, then
events with a digest for each bank. Only SHA-256 is looked at.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 2 << 20
"""Of a log as it is; known ones have less than 100 KiB."""
MAX_EVENTS: Final = 10_000
MAX_REGISTER: Final = 23
NO_ACTION: Final = 0x03

_SHA256: Final = 0x000B
_DIGEST: Final = 32
_SHA1_DIGEST: Final = 20
_MAX_BANKS: Final = 16
_SIGNATURE: Final = b"Spec ID Event03\0"
_LOCALITY: Final = b"StartupLocality\0"
_GZIP: Final = 16 + zlib.MAX_WBITS


class EventLogError(ValueError):
    """The log cannot be read, or is none."""


@dataclass(frozen=True)
class Event:
    """One measurement. `digest`: SHA-256, what the register was extended by."""

    register: int
    type: int
    digest: bytes
    data: bytes


def inflate(packed: bytes) -> bytes:
    """From gzip, as machines send it; raises EventLogError for what is none or too large."""
    inflater = zlib.decompressobj(_GZIP)
    try:
        log = inflater.decompress(packed, MAX_BYTES + 1)
    except zlib.error as error:
        raise EventLogError(f"cannot read the event log: {error}") from None
    if len(log) > MAX_BYTES:
        raise EventLogError(f"cannot read the event log: it has more than {MAX_BYTES} bytes")
    if not inflater.eof or inflater.unused_data:
        raise EventLogError("cannot read the event log: it is cut short, or something follows it")
    return log


def parse(log: bytes) -> tuple[Event, ...]:
    """All events but the first, which tells the form. Raises EventLogError."""
    reader = _Reader(log)
    banks = _read_header(reader)
    events: list[Event] = []
    while not reader.at_end:
        if len(events) == MAX_EVENTS:
            raise EventLogError(f"cannot read the event log: more than {MAX_EVENTS} events")
        events.append(_read_event(reader, banks))
    return tuple(events)


def replay(events: tuple[Event, ...]) -> dict[int, bytes]:
    """What the registers that the log is about must have come to."""
    registers = {event.register: bytes(_DIGEST) for event in events if event.type != NO_ACTION}
    for event in events:
        if event.type != NO_ACTION:
            held = registers[event.register]
            registers[event.register] = hashlib.sha256(held + event.digest).digest()
        elif event.register == 0 and event.data.startswith(_LOCALITY) and 0 in registers:
            registers[0] = bytes(_DIGEST - 1) + event.data[len(_LOCALITY) :][:1].ljust(1, b"\0")
    return registers


def unexplained(events: tuple[Event, ...], quoted: Mapping[int, bytes]) -> list[int]:
    """Registers of which the log tells another story than the security module signed."""
    replayed = replay(events)
    return sorted(
        number for number, value in replayed.items() if number in quoted and quoted[number] != value
    )


def of_register(events: tuple[Event, ...], register: int) -> list[Event]:
    return [event for event in events if event.register == register and event.type != NO_ACTION]


# -- reading --


def _read_header(reader: _Reader) -> Mapping[int, int]:
    """Digest sizes by bank."""
    register, kind = reader.unpack("<II")
    reader.take(_SHA1_DIGEST)
    (size,) = reader.unpack("<I")
    header = _Reader(reader.take(size))
    if register != 0 or kind != NO_ACTION or header.take(len(_SIGNATURE)) != _SIGNATURE:
        raise EventLogError("cannot read the event log: it is not of the crypto-agile form")
    header.take(8)
    (count,) = header.unpack("<I")
    if not 0 < count <= _MAX_BANKS:
        raise EventLogError(f"cannot read the event log: it has {count} banks")
    banks = dict(header.pair("<HH") for _ in range(count))
    if banks.get(_SHA256) != _DIGEST:
        raise EventLogError("cannot read the event log: it has no bank of SHA-256")
    return banks


def _read_event(reader: _Reader, banks: Mapping[int, int]) -> Event:
    register, kind, count = reader.unpack("<III")
    if register > MAX_REGISTER or count > len(banks):
        raise EventLogError(f"cannot read the event log: event of register {register}")
    digest = b""
    for _ in range(count):
        (bank,) = reader.unpack("<H")
        if bank not in banks:
            raise EventLogError(f"cannot read the event log: bank {bank:#x} was not announced")
        held = reader.take(banks[bank])
        if bank == _SHA256:
            digest = held
    (size,) = reader.unpack("<I")
    data = reader.take(size)
    if kind != NO_ACTION and not digest:
        raise EventLogError("cannot read the event log: an event has no digest of SHA-256")
    return Event(register, kind, digest, data)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise EventLogError("cannot read the event log: it is cut short")
        part, self._position = self._data[self._position : end], end
        return part

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def pair(self, form: str) -> tuple[int, int]:
        first, second = self.unpack(form)
        return first, second
