"""Event logs: read whole or refused, replayed to the registers, told in words."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.fleet.attestation import event_words, eventlog
from edgevirt.wire.event_log import SIZE_MAX, Event, EventLogError
from tests.parts.measured import SoftwareTpm, application, boot, event, pack_log, variable

LOG = pack_log(boot())
GOLDEN = Path(__file__).parents[3] / "golden" / "eventlog"


def test_the_log_explains_the_registers() -> None:
    tpm = SoftwareTpm(boot())
    events = eventlog.unpack(gzip.compress(LOG))
    assert list(events) == boot()
    assert eventlog.explained(events, tpm.registers) == list(range(10))
    assert eventlog.unexplained(events, tpm.registers) == []


def test_a_log_that_tells_another_story_is_found_out() -> None:
    told = boot()
    told[-1] = event(9, b"/boot/vmlinuz\0", measured=b"a kernel that nobody booted")
    tpm = SoftwareTpm(boot())
    assert eventlog.unexplained(told, tpm.registers) == [9]
    assert 9 not in eventlog.explained(told, tpm.registers)


def test_registers_that_were_not_quoted_are_not_compared() -> None:
    assert eventlog.unexplained(tuple(boot()), {}) == []


def test_a_packed_log_is_bounded_and_whole() -> None:
    assert eventlog.inflate(gzip.compress(LOG)) == LOG
    for packed, why in (
        (gzip.compress(bytes(SIZE_MAX + 1)), "more than"),
        (gzip.compress(LOG)[:-1], "cut short"),
        (gzip.compress(LOG) + b"x", "follows"),
        (b"junk", "cannot read"),
    ):
        with pytest.raises(EventLogError, match=why):
            eventlog.inflate(packed)


# -- a real machine's: OVMF with a TPM of swtpm, and a kernel started by its EFI stub --


def test_a_real_log_explains_a_real_machine_s_registers() -> None:
    events = eventlog.unpack((GOLDEN / "ovmf.bin.gz").read_bytes())
    told = json.loads((GOLDEN / "ovmf.json").read_text())
    registers = {int(number): bytes.fromhex(value) for number, value in told.items()}
    assert eventlog.explained(events, registers) == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert eventlog.unexplained(events, registers) == []
    assert [event_words.describe(event) for event in eventlog.of_register(events, 7)] == [
        *("EFI variable SecureBoot", "EFI variable PK", "EFI variable KEK"),
        *("EFI variable db", "EFI variable dbx", "the end of the firmware's part"),
    ]
    assert [event_words.describe(event) for event in eventlog.of_register(events, 4)] == [
        *("EFI application kernel", "Calling EFI Application from Boot Option"),
        "the end of the firmware's part",
    ]
    assert [event_words.describe(event) for event in eventlog.of_register(events, 9)] == [
        *("LOADED_IMAGE::LoadOptions", "Linux initrd"),
    ]


# -- words --


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (variable(7, "SecureBoot", b"\1"), "EFI variable SecureBoot"),
        (application(4, "\\EFI\\BOOT\\X.EFI", b"x"), "EFI application \\EFI\\BOOT\\X.EFI"),
        (event(8, b"grub_cmd: boot\0"), "grub_cmd: boot"),
        (event(0, "1.2.3".encode("utf-16-le") + b"\0\0", kind=8), "firmware version 1.2.3"),
        (event(1, bytes(4), kind=4), "the end of the firmware's part"),
        (event(9, struct.pack("<II", 1, 6) + b"initrd", kind=6), "initrd"),
        (event(0, struct.pack("<QQ", 0xFF000000, 512), kind=0x80000008),
         "firmware of 512 bytes at 0xff000000"),
        (event(1, b"x", kind=0x1234), "event of type 0x1234 x"),
        (event(4, b"", kind=0x80000003), "EFI application"),
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
