"""A DNS server's answer is read, or refused; nothing else comes of it."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.host.net.question import AAAA, A, NoAnswer, answer, question

ASKED = question(7, "controller.example", A)
POINTER = b"\xc0\x0c"


def said(*records: tuple[int, bytes], flags: int = 0x8180, asked: bytes = ASKED) -> bytes:
    parts = [
        POINTER + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for kind, data in records
    ]
    return struct.pack("!6H", 7, flags, 1, len(parts), 0, 0) + asked[12:] + b"".join(parts)


def test_addresses_are_found_behind_an_alias() -> None:
    found = said((5, b"\x03www\xc0\x0c"), (1, bytes([192, 0, 2, 7])), (1, bytes([192, 0, 2, 8])))
    assert answer(found, ASKED, A) == ["192.0.2.7", "192.0.2.8"]


def test_a_name_that_does_not_exist_has_no_addresses() -> None:
    assert answer(said(flags=0x8183), ASKED, A) == []


def test_version_6_is_asked_for_by_its_own_type() -> None:
    asked = question(7, "controller.example", AAAA)
    found = said((28, bytes(15) + b"\x01"), (1, bytes(4)), asked=asked)
    assert answer(found, asked, AAAA) == ["::1"]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (said(flags=0x8182), "refuses"),
        (said(flags=0x0100), "another question"),
        (said(asked=question(7, "evil.example", A)), "another question"),
        (said((1, bytes(4)))[:-9], "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_an_answer_that_is_none_says_why(message: bytes, why: str) -> None:
    with pytest.raises(NoAnswer, match=why):
        answer(message, ASKED, A)


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(NoAnswer):
        question(1, name, A)


@given(st.binary(max_size=200))
def test_no_answer_is_too_strange(noise: bytes) -> None:
    for message in (noise, said()[:12] + noise, said((1, bytes(4))) + noise):
        with contextlib.suppress(NoAnswer):
            assert all(answer(message, ASKED, A))
