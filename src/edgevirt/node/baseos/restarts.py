"""When the node restarts by its own decision, and for what.

Apart from what is wanted, and reading reports alone: a version under test that cannot read its
config, and so never knows what is wanted, is left in time too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from edgevirt.model.baseos import NodeReboot, SlotState, UpdateTimes
from edgevirt.model.kinds import (
    AGENT_STATUS,
    BASE_OS_STATUS,
    NODE_REBOOT,
    SLOTS_FOUND,
    UPDATE_TEST,
    UPDATE_TIMES,
    VAULT_STATUS,
)
from edgevirt.model.machine import BootReason
from edgevirt.node.baseos.window import follow, judge, judge_alone
from edgevirt.runtime import Again, Inputs, Kind, Output

KEY: Final = "node"
FAREWELL: Final = 10.0
"""Seconds between the decision to update and the restart: the controller is to hear of it."""


class RestartPlanner:
    """`farewell`: as FAREWELL."""

    name = "baseos.restarts"
    reads: tuple[Kind[Any], ...] = (
        AGENT_STATUS,
        VAULT_STATUS,
        SLOTS_FOUND,
        BASE_OS_STATUS,
        UPDATE_TIMES,
    )
    owns: tuple[Kind[Any], ...] = (UPDATE_TEST, NODE_REBOOT)

    def __init__(self, farewell: float = FAREWELL) -> None:
        self._farewell = farewell

    def plan(self, inputs: Inputs) -> Iterator[Output | Again]:
        now = inputs.monotonic
        test = follow(inputs.get(UPDATE_TEST, KEY), inputs.get(AGENT_STATUS, KEY), now)
        yield Output(UPDATE_TEST, KEY, test)
        found = inputs.get(SLOTS_FOUND, KEY)
        if found is None or not found.slots:
            return
        times = inputs.get(UPDATE_TIMES, KEY) or UpdateTimes()
        if found.slots[0].state is SlotState.INPROGRESS:
            verdict = judge(test, inputs.get(VAULT_STATUS, "vault"), times, now)
        else:
            verdict = judge_alone(test, times, now)
        if verdict.wait is not None:
            yield Again(verdict.wait)
        if verdict.reason is not None:
            yield self._told(verdict.reason, verdict.why, inputs)
            return
        yield from self._for_update(inputs)

    def _for_update(self, inputs: Inputs) -> Iterator[Output | Again]:
        """A moment after it was decided."""
        status = inputs.get(BASE_OS_STATUS, KEY)
        if status is None or not status.reboot:
            return
        left = status.since + self._farewell - inputs.now
        if 0 < left <= self._farewell:
            yield Again(left)
        else:
            yield self._told(BootReason.UPDATE, status.reboot, inputs)

    def _told(self, reason: BootReason, why: str, inputs: Inputs) -> Output:
        """Once: the same restart keeps the time of its decision."""
        before = inputs.get(NODE_REBOOT, KEY)
        if before is not None and before.reason is reason and before.why == why:
            return Output(NODE_REBOOT, KEY, before)
        return Output(NODE_REBOOT, KEY, NodeReboot(reason=reason, why=why, at=inputs.now))
