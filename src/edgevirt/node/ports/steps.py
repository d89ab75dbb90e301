"""What the keeper of the ports is told, and what it says to do next."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from edgevirt.model.ports import PortConfig, PortSettings


class Moment(msgspec.Struct, frozen=True):
    """`now`: wall clock, for stamps; `monotonic`: for deadlines."""

    now: float
    monotonic: float


class Timers(msgspec.Struct, frozen=True):
    """Seconds; `better` 0: never."""

    duration: float = 30.0
    interval: float = 300.0
    better: float = 600.0
    timeout: float = 15.0


class Apply(msgspec.Struct, frozen=True):
    """Set the machine up by this config; then look at its interfaces again."""

    config: PortConfig


class Test(msgspec.Struct, frozen=True):
    """Ask the controller by each of these ports. `turn`: of the question."""

    __test__ = False

    ports: tuple[PortSettings, ...]
    turn: int


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do for so long, if nothing happens. None: for ever."""

    seconds: float | None


Step: TypeAlias = Apply | Test | Wait


class Phase(enum.Enum):
    TRYING = "trying"
    KEEPING = "keeping"
    PARKED = "parked"
