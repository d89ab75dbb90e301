"""Values of a TPM's registers, as people and manifests write them: number → hex alternatives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required

REGISTERS = 16
"""Those that a node quotes: 0 to 15."""
MAX_VALUES = 64
"""Alternatives for one register."""

_VALUE = re.compile(r"[0-9a-f]{64}")


def check_registers(
    field: str, registers: Mapping[str, tuple[str, ...]], allowed: tuple[int, ...] = ()
) -> Iterator[Problem]:
    """`allowed`: numbers that may stand there; empty: all that are quoted."""
    numbers = [str(number) for number in allowed or range(REGISTERS)]
    for name, values in registers.items():
        path = f"{field}[{name}]"
        if name not in numbers:
            yield invalid(path, name, f"must be a register's number, one of {', '.join(numbers)}")
        if not values:
            yield required(path, "give at least one value")
        if len(values) > MAX_VALUES:
            yield invalid(path, len(values), f"must have at most {MAX_VALUES} values")
        for index, value in enumerate(values):
            if not _VALUE.fullmatch(value):
                why = "must be 64 lower case hex digits: a value of the SHA-256 bank"
                yield invalid(f"{path}[{index}]", value, why)
            elif value in values[:index]:
                yield duplicate(f"{path}[{index}]", value)
