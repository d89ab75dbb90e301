"""Event logs: read whole or refused, replayed to the registers, told in words."""

from __future__ import annotations

import gzip
import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.fleet.device import event_words, eventlog
from edgevirt.fleet.device.eventlog import Event, EventLogError
from tests.measured import SoftwareTpm, application, boot, event, pack_log, variable

LOG = pack_log(boot())


def test_what_was_packed_is_read_again() -> None:
    assert list(eventlog.parse(LOG)) == boot()


def test_the_replay_comes_to_the_registers() -> None:
    tpm = SoftwareTpm(boot())
    replayed = eventlog.replay(eventlog.parse(LOG))
    assert set(replayed) == set(range(10))
    assert all(tpm.registers[number] == value for number, value in replayed.items())
    assert eventlog.unexplained(eventlog.parse(LOG), tpm.registers) == []


def test_the_first_register_begins_with_the_locality() -> None:
    start = Event(0, eventlog.NO_ACTION, b"", b"StartupLocality\0\x03")
    one = event(0, b"x")
    begin = bytes(31) + b"\x03"
    assert eventlog.replay((start, one))[0] == hashlib.sha256(begin + one.digest).digest()


def test_a_log_that_tells_another_story_is_found_out() -> None:
    told = boot()
    told[-1] = event(9, b"/boot/vmlinuz\0", measured=b"a kernel that nobody booted")
    tpm = SoftwareTpm(boot())
    assert eventlog.unexplained(tuple(told), tpm.registers) == [9]


def test_registers_that_were_not_quoted_are_not_compared() -> None:
    assert eventlog.unexplained(tuple(boot()), {}) == []


def test_all_banks_are_skipped_but_one() -> None:
    digest = hashlib.sha256(b"x").digest()
    banks = struct.pack("<IHHHH", 2, 0x0004, 20, 0x000B, 32)
    header = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 0, 2) + banks + b"\0"
    log = struct.pack("<II", 0, 3) + bytes(20) + struct.pack("<I", len(header)) + header
    log += struct.pack("<III", 4, 0x0D, 2)
    log += struct.pack("<H", 0x0004) + bytes(20) + struct.pack("<H", 0x000B) + digest
    log += struct.pack("<I", 1) + b"x"
    assert eventlog.parse(log) == (Event(4, 0x0D, digest, b"x"),)


def _without_header() -> bytes:
    return struct.pack("<II", 0, 3) + bytes(20) + struct.pack("<I", 16) + b"Spec ID Event02\0"


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (b"", "cut short"),
        (LOG[:-1], "cut short"),
        (LOG + b"x", "cut short"),
        (_without_header(), "crypto-agile"),
        (b"\x01" + LOG[1:], "crypto-agile"),
        (LOG + struct.pack("<III", 24, 1, 0), "register 24"),
        (LOG + struct.pack("<III", 1, 1, 99), "register 1"),
        (LOG + struct.pack("<IIIH", 1, 1, 1, 0x0004), "not announced"),
        (LOG + struct.pack("<IIII", 1, 1, 0, 0), "no digest"),
        (LOG + struct.pack("<IIII", 1, 3, 0, 2**32 - 1), "cut short"),
    ],
)
def test_what_is_no_log_is_refused(log: bytes, why: str) -> None:
    with pytest.raises(EventLogError, match=why):
        eventlog.parse(log)


def test_a_log_of_too_many_events_is_refused() -> None:
    many = pack_log(Event(0, 3, b"", b"") for _ in range(eventlog.MAX_EVENTS + 1))
    with pytest.raises(EventLogError, match="more than"):
        eventlog.parse(many)


def test_a_packed_log_is_bounded_and_whole() -> None:
    assert eventlog.inflate(gzip.compress(LOG)) == LOG
    for packed, why in (
        (gzip.compress(bytes(eventlog.MAX_BYTES + 1)), "more than"),
        (gzip.compress(LOG)[:-1], "cut short"),
        (gzip.compress(LOG) + b"x", "follows"),
        (b"junk", "cannot read"),
    ):
        with pytest.raises(EventLogError, match=why):
            eventlog.inflate(packed)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for log in (data, LOG + data):
        try:
            events = eventlog.parse(log)
        except EventLogError:
            continue
        assert pack_log(events)[:8] == LOG[:8]


@given(st.integers(0, len(LOG) - 1), st.integers(1, 255))
def test_a_changed_log_is_refused_or_replays_otherwise_or_tells_the_same(
    position: int, flip: int
) -> None:
    changed = LOG[:position] + bytes((LOG[position] ^ flip,)) + LOG[position + 1 :]
    try:
        events = eventlog.parse(changed)
    except EventLogError:
        return
    measured = [(e.register, e.type == 3, e.digest) for e in events]
    same = measured == [(e.register, e.type == 3, e.digest) for e in boot()]
    assert same or eventlog.replay(events) != eventlog.replay(tuple(boot()))


# -- words --


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (variable(7, "SecureBoot", b"\1"), "EFI variable SecureBoot"),
        (application(4, "\\EFI\\BOOT\\X.EFI", b"x"), "EFI application \\EFI\\BOOT\\X.EFI"),
        (event(8, b"grub_cmd: boot\0"), "grub_cmd: boot"),
        (event(0, "1.2.3".encode("utf-16-le") + b"\0\0", type=8), "firmware version 1.2.3"),
        (event(1, bytes(4), type=4), "the end of the firmware's part"),
        (event(9, struct.pack("<II", 1, 6) + b"initrd", type=6), "initrd"),
        (event(0, struct.pack("<QQ", 0xFF000000, 512), type=0x80000008),
         "firmware of 512 bytes at 0xff000000"),
        (event(1, b"x", type=0x1234), "event of type 0x1234 x"),
        (event(4, b"", type=0x80000003), "EFI application"),
        (event(4, b""), "something"),
    ],
)  # fmt: skip
def test_events_are_told_in_words(one: Event, words: str) -> None:
    assert event_words.describe(one) == words


@given(st.sampled_from([*event_words._TYPES, 99]), st.binary(max_size=200))
def test_words_are_short_and_harmless_whatever_the_machine_says(kind: int, data: bytes) -> None:
    words = event_words.describe(Event(0, kind, b"", data))
    assert words.isprintable()
    assert 0 < len(words) <= event_words.MAX_WORDS


def test_a_difference_is_explained_by_the_event_that_makes_it() -> None:
    before = [variable(7, "SecureBoot", b"\1"), event(7, b"db")]
    off = [variable(7, "SecureBoot", b"\0"), event(7, b"db")]
    assert "EFI variable SecureBoot is another one" in event_words.explain(7, off, before)
    more = [*before, event(7, b"dbx")]
    assert event_words.explain(7, more, before) == "dbx was measured in addition"
    assert event_words.explain(7, before[:1], before) == "db was not measured"
    other = [before[0], event(7, b"key")]
    assert event_words.explain(7, other, before) == "key was measured, before it was db"
    assert event_words.explain(7, before, before) == "the log tells of no difference in register 7"
    assert event_words.explain(7, before, None) == "2 events made it, the last of db"
    assert "does not tell" in event_words.explain(7, [], before)
