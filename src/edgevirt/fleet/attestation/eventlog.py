"""A node's event log as it comes with a quote: unpacked within bounds, and held to the registers.

The log proves nothing by itself: it is the machine's own word. Replayed, it must come to the
registers that the security module signed; then it tells what they are made of.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final

from edgevirt.wire import event_log
from edgevirt.wire.errors import Reason
from edgevirt.wire.event_log import NO_ACTION, SIZE_MAX, Event, EventLogError

_GZIP: Final = 16 + zlib.MAX_WBITS


def unpack(packed: bytes) -> tuple[Event, ...]:
    """From gzip, as nodes send it. Raises EventLogError for what is none, or too large."""
    return tuple(event_log.read(inflate(packed)))


def inflate(packed: bytes) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        log = inflater.decompress(packed, SIZE_MAX + 1)
    except zlib.error as error:
        raise _unreadable(str(error)) from None
    if len(log) > SIZE_MAX:
        raise _unreadable(f"it has more than {SIZE_MAX} bytes")
    if not inflater.eof or inflater.unused_data:
        raise _unreadable("it is cut short, or something follows it")
    return log


def explained(events: Iterable[Event], quoted: Mapping[int, bytes]) -> list[int]:
    """Registers that were quoted and are what the log says."""
    replayed = event_log.replay(events)
    return sorted(n for n, value in replayed.items() if quoted.get(n) == value)


def unexplained(events: Iterable[Event], quoted: Mapping[int, bytes]) -> list[int]:
    """Registers of which the log tells another story than the security module signed."""
    replayed = event_log.replay(events)
    return sorted(n for n, value in replayed.items() if n in quoted and quoted[n] != value)


def of_register(events: Iterable[Event], register: int) -> list[Event]:
    return [event for event in events if event.register == register and event.kind != NO_ACTION]


def _unreadable(why: str) -> EventLogError:
    return EventLogError(Reason.MALFORMED, f"cannot read event log: {why}")
