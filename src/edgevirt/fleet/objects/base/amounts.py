"""Rules for numbers in a spec: sizes, and counters that people raise."""

from __future__ import annotations

from collections.abc import Iterator

from edgevirt.fleet.objects.base.problems import Problem, invalid
from edgevirt.model.quantity import Quantity, whole

_MAX_COUNTER = 2**32 - 1
"""The EVE API's counters have 32 bits."""


def check_size(field: str, size: Quantity, *, least: int) -> Iterator[Problem]:
    """A quantity of bytes."""
    try:
        amount = whole(size)
    except ValueError as error:
        yield invalid(field, size, str(error))
        return
    if not least <= amount < 2**63:
        yield invalid(field, size, f"must be at least {least} bytes")


def check_counter(field: str, counter: int) -> Iterator[Problem]:
    if not 0 <= counter <= _MAX_COUNTER:
        yield invalid(field, counter, f"must be between 0 and {_MAX_COUNTER}")
