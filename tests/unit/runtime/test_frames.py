"""Frames survive any cut of the stream, and rubbish is refused before it costs anything."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevirt.runtime import frames
from edgevirt.runtime.frames import BadFrame, Frame, Splitter


def put(key: str, version: int, data: bytes) -> Frame:
    return Frame(frames.PUT, key, version, frames.raw(msgspec.msgpack.encode(data)))


FRAMES = st.lists(
    st.one_of(
        st.builds(put, st.text(), st.integers(0, 2**63), st.binary(max_size=100)),
        st.builds(lambda v: Frame(frames.IN_STEP, "", v), st.integers(0, 2**63)),
        st.builds(lambda k, v: Frame(frames.GONE, k, v), st.text(), st.integers(0, 2**63)),
    ),
    max_size=8,
)


def plain(frame: Frame) -> tuple[int, str, int, bytes]:
    return frame.type, frame.key, frame.version, bytes(frame.value)


@given(sent=FRAMES, cuts=st.lists(st.integers(1, 40), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(frames.encode(frame) for frame in sent)
    splitter, received, turn = Splitter(), [], 0
    while stream:
        size = cuts[turn % len(cuts)]
        turn += 1
        chunk, stream = stream[:size], stream[size:]
        received += [plain(frame) for frame in splitter.feed(chunk)]
    assert received == [plain(frame) for frame in sent]


def test_a_large_frame_in_small_chunks_costs_its_size_once() -> None:
    frame = frames.encode(put("k", 1, bytes(8 << 20)))
    splitter = Splitter()
    for start in range(0, len(frame) - 1, 64 << 10):
        end = min(start + (64 << 10), len(frame) - 1)
        assert list(splitter.feed(frame[start:end])) == []
    (received,) = splitter.feed(frame[-1:])
    assert len(received.value) > 8 << 20


@given(st.binary(min_size=1, max_size=50))
def test_rubbish_is_refused_or_awaited_but_never_passed_on(data: bytes) -> None:
    try:
        for frame in Splitter().feed(data):
            assert isinstance(frame, Frame)
    except BadFrame:
        pass


def test_a_length_beyond_the_bound_is_refused_at_once() -> None:
    with pytest.raises(BadFrame, match="a frame of"):
        list(Splitter().feed(struct.pack("<I", frames.MAX_VALUE * 2)))
