"""What is told of a volume that is not made: how far it is, and why not further."""

from __future__ import annotations

from typing import Final, NoReturn

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.ids import VolumeId
from edgevirt.model.kinds import VOLUME_STATUS
from edgevirt.model.volume import Volume, VolumeStatus
from edgevirt.node.troubles import worsen
from edgevirt.runtime import Inputs, Refuse, Report, Retry

RETRY: Final = 10.0
"""Seconds after which a volume that had no room, or failed, is tried again."""


def missing(key: str, inputs: Inputs) -> VolumeStatus:
    """Of one that an app is to use and that only a snapshot has."""
    volume, _, generation = key.partition("#")
    before = inputs.get(VOLUME_STATUS, key)
    same = before is not None and before.state == SwState.INITIAL
    since = before.since if before is not None and same else inputs.now
    return VolumeStatus(
        id=VolumeId(volume), generation=int(generation), state=SwState.INITIAL, since=since
    )


class Telling:
    """One volume that is not made yet, and what is told about it."""

    def __init__(
        self, key: str, spec: Volume, inputs: Inputs, report: Report[VolumeStatus]
    ) -> None:
        self.key = key
        self.spec = spec
        self.inputs = inputs
        self.report = report
        self.name = spec.name or key
        self._before = inputs.get(VOLUME_STATUS, key)

    def status(
        self, state: SwState, progress: int = 0, trouble: Trouble | None = None
    ) -> VolumeStatus:
        before, spec = self._before, self.spec
        same = before is not None and before.state == state
        return VolumeStatus(
            id=spec.id,
            generation=spec.generation,
            state=state,
            since=before.since if before is not None and same else self.inputs.now,
            name=spec.name,
            progress=progress,
            max_size=spec.max_size,
            readonly=spec.readonly,
            trouble=trouble,
        )

    async def retry(self, state: SwState, why: str) -> NoReturn:
        """Always raises Retry."""
        before = self._before.trouble if self._before is not None else None
        trouble = worsen(before, why, self.inputs.now, RETRY)
        await self.report(self.status(state, trouble=trouble))
        raise Retry(why, after=RETRY)

    async def fail(self, why: str) -> NoReturn:
        """Always raises Refuse."""
        why = f"cannot make volume {self.name}: {why}"
        trouble = Trouble(why=why, since=self.inputs.now)
        await self.report(self.status(SwState.FAILED, trouble=trouble))
        raise Refuse(why)
