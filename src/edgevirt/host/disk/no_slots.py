"""The slots of a node that is a part of a machine: there is one, and nothing is written to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgevirt.host.disk.slots import Progress, SlotError
from edgevirt.model.baseos import SlotState

_WHY = "cannot update: a node in host mode has no slots; update the machine that it runs on"


class NoSlots(msgspec.Struct, frozen=True):
    """`running`: the version of this program."""

    running: str
    current: str = "IMGA"

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.current,)

    def states(self) -> dict[str, SlotState]:
        return {self.current: SlotState.ACTIVE}

    def set_states(self, states: Mapping[str, SlotState]) -> None:
        raise SlotError(_WHY)

    def size(self, label: str) -> int:
        return 0

    def device(self, label: str) -> str:
        return ""

    def version(self, label: str) -> str:
        return self.running

    def write(self, label: str, source: Path, progress: Progress) -> None:
        raise SlotError(_WHY)

    def digest(self, label: str, length: int, progress: Progress) -> str:
        raise SlotError(_WHY)
