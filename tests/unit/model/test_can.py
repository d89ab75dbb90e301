"""How a CAN bus is set, as the words of a hardware model tell it."""

from __future__ import annotations

import pytest

from edgevirt.model.can import CanBus, CanTiming, read_can


def read(**words: str) -> CanBus | None:
    return read_can((name.replace("_", "-"), value) for name, value in words.items())


def test_a_bit_rate_is_enough_and_nothing_is_no_bus() -> None:
    assert read(bitrate="125000") == CanBus(timing=CanTiming(bitrate=125_000))
    assert read() is None


def test_all_that_a_controller_can_be_told() -> None:
    found = read(
        bitrate="500000", sample_point="0.875", sjw="2", dbitrate="2000000", dsample_point=".8",
        fd="on", listen_only="on", one_shot="off",
    )  # fmt: skip
    assert found == CanBus(
        timing=CanTiming(bitrate=500_000, sample_point=875, jump_width=2),
        data=CanTiming(bitrate=2_000_000, sample_point=800),
        modes=("fd", "listen-only"),
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"sample_point": "0.875"}, "no bitrate of its CAN bus, but more of it"),
        ({"fd": "on"}, "settings of its CAN bus, but no bitrate"),
        ({"bitrate": "0"}, "to '0': not within 1 to 1000000"),
        ({"bitrate": "2000000"}, "not within 1 to 1000000"),
        ({"bitrate": "fast"}, "to 'fast'"),
        ({"bitrate": "٣"}, "not within"),
        ({"bitrate": "125000", "sample_point": "87.5"}, "to '87.5': not like 0.875"),
        ({"bitrate": "125000", "sample_point": "0.000"}, "not like 0.875"),
        ({"bitrate": "125000", "fd": "yes"}, "sets fd of its CAN bus to 'yes': not on or off"),
        ({"bitrate": "125000", "tq": "29"}, "sets tq of its CAN bus: give bitrate, sample-point"),
        ({"bitrate": "125000", "colour": "on"}, "sets colour of its CAN bus, which is not known"),
        ({"bitrate": "125000", "dbitrate": "2000000"}, "only with fd on"),
    ],
)
def test_what_no_controller_can_be_told_is_refused_in_words(
    words: dict[str, str], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        read(**words)
