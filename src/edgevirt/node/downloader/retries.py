"""When a failed fetch is tried again."""

from __future__ import annotations

from collections.abc import Callable

from edgevirt.node.properties import number
from edgevirt.runtime import Inputs

FIRST = 5.0
"""Seconds after the first failure."""
Jitter = Callable[[], float]
"""A number from 0 to 1: a fleet whose registry comes back must not ask in the same moment."""


def delay(failures: int, inputs: Inputs, jitter: Jitter) -> float:
    """Triples from FIRST up to `timer.download.retry` (EVE waits that from the first on); jitter
    takes up to a quarter off. `failures` in a row, from 1.
    """
    cap = float(number(inputs, "timer.download.retry"))
    seconds = min(cap, FIRST * 3.0 ** min(failures - 1, 16))
    return seconds * (1 - 0.25 * jitter())
