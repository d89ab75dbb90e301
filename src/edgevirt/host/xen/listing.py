"""What `xl` prints, as values. Pure; only the standard library."""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

_LINE: Final = re.compile(
    r"^(?P<name>\S+)\s+(?P<number>\d+)\s+(?P<memory>\d+)\s+(?P<vcpus>\d+)\s+"
    r"(?P<state>[rbpscd-]{6})\s+(?P<seconds>[\d.]+)\s+(?P<uuid>\S+)\s+(?P<reason>\S+)"
)


class Reason(enum.IntEnum):
    """Why a domain shut itself down (xen/include/public/sched.h)."""

    POWER_OFF = 0
    REBOOT = 1
    SUSPEND = 2
    CRASH = 3
    WATCHDOG = 4
    SOFT_RESET = 5


class Listed(NamedTuple):
    """`memory`: MiB. `seconds`: of processor time. `reason`: None while it is not shut down."""

    name: str
    number: int
    memory: int
    vcpus: int
    paused: bool
    seconds: float
    reason: Reason | None


def parse_memory(text: str) -> int:
    """MiB of the whole machine, of what `xl info` prints. Raises ValueError."""
    found = re.search(r"^total_memory\s*:\s*(\d+)\s*$", text, re.MULTILINE)
    if found is None:
        raise ValueError("it does not say how much memory there is")
    return int(found[1])


def parse_list(text: str) -> list[Listed]:
    """Lines that are no domain's are left out: the header, what is half gone."""
    found = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        state = match["state"]
        found.append(
            Listed(
                name=match["name"],
                number=int(match["number"]),
                memory=int(match["memory"]),
                vcpus=int(match["vcpus"]),
                paused="p" in state,
                seconds=float(match["seconds"]),
                reason=_reason(state, match["reason"]),
            )
        )
    return found


def _reason(state: str, code: str) -> Reason | None:
    if "s" not in state and "d" not in state:
        return None
    if "c" in state or not re.fullmatch(r"[0-9a-f]+", code):
        return Reason.CRASH if "c" in state else Reason.POWER_OFF
    number = int(code, 16)
    return Reason(number) if number in list(Reason) else Reason.CRASH
