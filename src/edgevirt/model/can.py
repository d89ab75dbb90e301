"""A CAN bus as an app gets it: how long its bits are, and what its controller does besides. Pure.

A hardware model gives it as words (`cbattr` of the wire), by the names that `ip link` has for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from edgevirt.model.base import Noun

FASTEST: Final = 1_000_000
"""Bits a second; data of CAN FD alone may be faster."""
FASTEST_DATA: Final = 8_000_000

SAMPLE_POINT: Final = re.compile(r"0?\.(?!0+$)(\d{1,3})", re.ASCII)
_MODES: Final = frozenset(
    {"loopback", "listen-only", "triple-sampling", "one-shot", "berr-reporting"}
    | {"fd", "fd-non-iso", "presume-ack", "cc-len8-dlc"}
)
_LENGTHS: Final = frozenset({"tq", "prop_seg", "phase_seg1", "phase_seg2"})


class CanTiming(Noun, frozen=True, kw_only=True):
    """`bitrate`: bits a second. `sample_point`: thousandths of a bit; `jump_width`: time quanta. Of
    these two 0 is what is usual.
    """

    bitrate: int
    sample_point: int = 0
    jump_width: int = 0


class CanBus(Noun, frozen=True, kw_only=True):
    """`data`: of CAN FD, whose data may have shorter bits. `modes`: those that are on."""

    timing: CanTiming
    data: CanTiming | None = None
    modes: tuple[str, ...] = ()


def read_can(words: Iterable[tuple[str, str]]) -> CanBus | None:
    """None: no word of it. Raises ValueError, with a sentence's end."""
    given = dict(words)
    if not given:
        return None
    timing = _timing(given, "", FASTEST)
    if timing is None:
        raise ValueError("the model has settings of its CAN bus, but no bitrate")
    data = _timing(given, "d", FASTEST_DATA)
    modes = []
    for name, value in sorted(given.items()):
        if name.removeprefix("d") in _LENGTHS:
            raise ValueError(f"the model sets {name} of its CAN bus: give bitrate, sample-point")
        if name not in _MODES:
            raise ValueError(f"the model sets {name} of its CAN bus, which is not known here")
        if value not in ("on", "off"):
            raise ValueError(f"the model sets {name} of its CAN bus to {value!r}: not on or off")
        if value == "on":
            modes.append(name)
    if data is not None and "fd" not in modes:
        raise ValueError("the model sets dbitrate of its CAN bus: only with fd on")
    return CanBus(timing=timing, data=data, modes=tuple(modes))


def _timing(given: dict[str, str], prefix: str, fastest: int) -> CanTiming | None:
    """Takes its words out of `given`."""
    bitrate = given.pop(f"{prefix}bitrate", "")
    point = given.pop(f"{prefix}sample-point", "")
    width = given.pop(f"{prefix}sjw", "")
    if not bitrate:
        if point or width:
            raise ValueError(f"the model sets no {prefix}bitrate of its CAN bus, but more of it")
        return None
    return CanTiming(
        bitrate=_number(f"{prefix}bitrate", bitrate, fastest),
        sample_point=_thousandths(f"{prefix}sample-point", point) if point else 0,
        jump_width=_number(f"{prefix}sjw", width, 128) if width else 0,
    )


def _number(name: str, text: str, most: int) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= most:
        raise ValueError(
            f"the model sets {name} of its CAN bus to {text!r}: not within 1 to {most}"
        )
    return int(text)


def _thousandths(name: str, text: str) -> int:
    found = SAMPLE_POINT.fullmatch(text)
    if found is None:
        raise ValueError(f"the model sets {name} of its CAN bus to {text!r}: not like 0.875")
    return int(found[1].ljust(3, "0"))
