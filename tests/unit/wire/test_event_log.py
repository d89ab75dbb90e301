"""Event logs: what a machine says that it measured, and whether that explains its registers."""

from __future__ import annotations

import contextlib
import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.wire import event_log
from edgevirt.wire.event_log import HEAD, IPL, NO_ACTION, Event, EventLogError


def event(register: int, text: bytes) -> Event:
    return Event(register, IPL, hashlib.sha256(text).digest(), text)


EVENTS = (event(4, b"boot loader"), event(8, b"a command"), event(4, b"kernel"))


def test_what_was_appended_is_read_back_in_order() -> None:
    log = event_log.append(event_log.append(b"", EVENTS[:1]), EVENTS[1:])
    assert tuple(event_log.read(log)) == EVENTS
    assert event_log.read(HEAD) == []


def test_a_replay_is_what_a_tpm_would_hold() -> None:
    first = hashlib.sha256(bytes(32) + EVENTS[0].digest).digest()
    assert event_log.replay(EVENTS) == {
        4: hashlib.sha256(first + EVENTS[2].digest).digest(),
        8: hashlib.sha256(bytes(32) + EVENTS[1].digest).digest(),
    }


def test_a_machine_that_started_at_another_locality_begins_register_0_with_it() -> None:
    locality = Event(0, NO_ACTION, bytes(32), b"StartupLocality\0\x03")
    told = Event(0, NO_ACTION, bytes(32), b"anything else")
    values = event_log.replay([told, locality, event(0, b"firmware")])
    expected = hashlib.sha256(bytes(31) + b"\x03" + event(0, b"firmware").digest).digest()
    assert values == {0: expected}


def test_a_text_is_believed_only_when_the_digest_is_its_own() -> None:
    assert EVENTS[0].is_own_hash
    assert not Event(13, IPL, hashlib.sha256(b"the image").digest(), b"IMGA").is_own_hash


def firmware_log() -> bytes:
    """As OVMF writes it: SHA-1 and SHA-256 beside each other."""
    names = struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 2) + struct.pack("<4H", 0x4, 20, 0xB, 32)
    spec = b"Spec ID Event03\0" + names + b"\0"
    log = struct.pack("<II20sI", 0, NO_ACTION, bytes(20), len(spec)) + spec
    for one in EVENTS:
        log += struct.pack("<III", one.register, one.kind, 2)
        log += struct.pack("<H20s", 0x4, hashlib.sha1(one.data).digest())
        log += struct.pack("<H32sI", 0xB, one.digest, len(one.data)) + one.data
    return log


def test_our_own_events_follow_those_of_a_firmware_that_has_more_hashes() -> None:
    added = event(14, b"CONFIG/server sha256:00")
    log = event_log.append(firmware_log(), [added])
    assert tuple(event_log.read(log)) == (*EVENTS, added)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (b"", "cut short"),
        (HEAD[:-1], "cut short"),
        (HEAD + b"\0", "cut short"),
        (HEAD.replace(b"Spec ID Event03", b"Spec ID Event02"), "several hashes"),
        (HEAD + struct.pack("<III", 99, IPL, 0) + bytes(4), "register 99"),
        (HEAD + struct.pack("<III", 1, IPL, 99), "99 digests"),
        (HEAD + struct.pack("<IIIH", 1, IPL, 1, 0x77), "hash 0x77"),
        (HEAD + struct.pack("<IIII", 1, IPL, 0, 1 << 31), "cut short"),
        (bytes(event_log.SIZE_MAX + 1), "bytes"),
        (HEAD + (struct.pack("<III", 1, IPL, 0) + bytes(4)) * 10_001, "more than 10000 events"),
    ],
)
def test_what_cannot_be_a_log_is_refused(log: bytes, why: str) -> None:
    with pytest.raises(EventLogError, match=why):
        event_log.read(log)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(tail: bytes) -> None:
    with contextlib.suppress(EventLogError):
        event_log.replay(event_log.read(HEAD + tail))
