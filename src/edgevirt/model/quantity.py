"""Kubernetes quantities: `512Mi`, `2G`, `500m`, `1e9`."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

Quantity = int | str
"""As written in an object; numbers are plain units."""

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_NUMBER = r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,2})?"
_FORM = re.compile(rf"({_NUMBER})([a-zA-Z]*)", re.ASCII)


def parse(quantity: Quantity) -> Decimal:
    """The value in plain units. Raises ValueError with a sentence for people."""
    if isinstance(quantity, int):
        return Decimal(quantity)
    match = _FORM.fullmatch(quantity.strip())
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError("must be a quantity such as 512Mi, 2G or 1000000")
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2]]
    except InvalidOperation as error:
        raise ValueError("must be a quantity such as 512Mi, 2G or 1000000") from error


def whole(quantity: Quantity) -> int:
    """Rounded up to whole units, as Kubernetes does it. Raises ValueError."""
    value = parse(quantity)
    floor = int(value)
    return floor + (1 if value > floor else 0)


def human(amount: int) -> str:
    """Bytes with the largest binary suffix that loses nothing."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        unit = int(_SUFFIXES[suffix])
        if amount >= unit and amount % unit == 0:
            return f"{amount // unit}{suffix}"
    return str(amount)


def spelled(amount: int) -> str:
    """The same for a sentence: `2 GiB`."""
    short = human(amount)
    number = short.rstrip("KMGTi")
    return f"{amount} bytes" if number == short else f"{number} {short[len(number) :]}B"
