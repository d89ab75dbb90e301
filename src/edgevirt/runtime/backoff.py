"""How long to wait after a failure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

Jitter = Callable[[], float]
"""A number from 0 to 1, so that many do not retry in the same moment. Tests give a constant."""


class Backoff(msgspec.Struct, frozen=True):
    """Doubles from `first` to `cap` seconds; jitter adds up to a quarter."""

    jitter: Jitter
    first: float = 1.0
    cap: float = 60.0

    def delay(self, failures: int) -> float:
        """`failures` in a row, from 1."""
        seconds = min(self.cap, self.first * 2.0 ** min(failures - 1, 32))
        return float(seconds * (1 + 0.25 * self.jitter()))
