"""The planner: the wanted version, what is in the slots, how the test goes → what is done next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.baseos import (
    BaseOsStatus,
    Slot,
    SlotPlan,
    SlotState,
    UpdateMemory,
    UpdateStep,
    UpdateTest,
    UpdateTimes,
)
from edgevirt.model.kinds import (
    BASE_OS,
    BASE_OS_STATUS,
    CONTENT_TREE_STATUS,
    PROPERTY,
    SLOT,
    SLOT_PLAN,
    SLOTS_FOUND,
    UPDATE_MEMORY,
    UPDATE_TEST,
    UPDATE_TIMES,
    VAULT_STATUS,
)
from edgevirt.model.machine import Boot
from edgevirt.node.baseos.update import Decision, Facts, decide, remember
from edgevirt.node.baseos.window import Verdict, judge
from edgevirt.node.properties import number
from edgevirt.runtime import Again, Inputs, Kind, Output

KEY: Final = "node"
_UPDATING: Final = frozenset({UpdateStep.WRITING, UpdateStep.REBOOTING, UpdateStep.TESTING})


class BaseOsPlanner:
    """`boot`: how this run of the node began."""

    name = "baseos"
    reads: tuple[Kind[Any], ...] = (
        BASE_OS,
        CONTENT_TREE_STATUS,
        VAULT_STATUS,
        PROPERTY,
        SLOTS_FOUND,
        UPDATE_TEST,
    )
    owns: tuple[Kind[Any], ...] = (
        BASE_OS_STATUS,
        SLOT,
        SLOT_PLAN,
        UPDATE_MEMORY,
        UPDATE_TIMES,
    )

    def __init__(self, boot: Boot) -> None:
        self._boot = boot

    def plan(self, inputs: Inputs) -> Iterator[Output | Again]:
        memory = inputs.get(UPDATE_MEMORY, KEY) or UpdateMemory()
        times = _times(inputs)
        yield Output(UPDATE_TIMES, KEY, times)
        facts = self._facts(inputs, memory)
        if facts is None:
            yield Output(SLOT_PLAN, KEY, SlotPlan())
            yield Output(UPDATE_MEMORY, KEY, memory)
            return
        memory = remember(facts)
        verdict = Verdict()
        if facts.current.state is SlotState.INPROGRESS:
            test = inputs.get(UPDATE_TEST, KEY) or UpdateTest(silent_from=inputs.monotonic)
            verdict = judge(test, inputs.get(VAULT_STATUS, "vault"), times, inputs.monotonic)
            decision = _tested(facts, verdict, memory)
        else:
            decision = decide(facts, memory)
        if verdict.wait is not None:
            yield Again(verdict.wait)
        yield Output(UPDATE_MEMORY, KEY, decision.memory)
        yield Output(SLOT_PLAN, KEY, decision.plan)
        yield Output(BASE_OS_STATUS, KEY, _status(facts, decision, verdict, inputs))
        for slot in facts.found.slots:
            yield Output(SLOT, slot.label, _told(slot, facts, decision.memory))

    def _facts(self, inputs: Inputs, memory: UpdateMemory) -> Facts | None:
        """None while the slots were not looked at."""
        found = inputs.get(SLOTS_FOUND, KEY)
        if found is None or not found.slots:
            return None
        wanted = inputs.get(BASE_OS, KEY)
        tree = inputs.get(CONTENT_TREE_STATUS, wanted.content_tree) if wanted is not None else None
        return Facts(
            wanted=wanted,
            tree=tree,
            found=found,
            memory=memory,
            boot=self._boot,
            fallback_counter=number(inputs, "force.fallback.counter"),
            now=inputs.now,
        )


def _times(inputs: Inputs) -> UpdateTimes:
    return UpdateTimes(
        test=number(inputs, "timer.test.baseimage.update"),
        silent=number(inputs, "timer.update.fallback.no.network"),
        vault=number(inputs, "timer.vault.ready.cutoff"),
        alone=number(inputs, "timer.reboot.no.network"),
    )


def _tested(facts: Facts, verdict: Verdict, memory: UpdateMemory) -> Decision:
    """The one that runs is under test: nothing else is begun before it is over."""
    states = [(facts.current.label, SlotState.ACTIVE)]
    if facts.other is not None:
        states.append((facts.other.label, SlotState.UNUSED))
    plan = SlotPlan(states=tuple(states)) if verdict.good else SlotPlan()
    wanted = facts.wanted
    why = ""
    if wanted is not None and wanted.version != facts.current.version:
        why = f"cannot update to {wanted.version}: the present version is still being tested"
    return Decision(UpdateStep.TESTING, memory, why, plan=plan)


def _status(facts: Facts, decision: Decision, verdict: Verdict, inputs: Inputs) -> BaseOsStatus:
    before = inputs.get(BASE_OS_STATUS, KEY)
    wanted, tree = facts.wanted, facts.tree
    same = before is not None and before.step is decision.step
    left = verdict.left
    progress = decision.progress
    if left is not None:
        whole = max(1.0, number(inputs, "timer.test.baseimage.update"))
        progress = int(100 * (1 - left / whole))
    return BaseOsStatus(
        step=decision.step,
        since=before.since if before is not None and same else inputs.now,
        current=facts.current.label,
        version=wanted.version if wanted is not None else "",
        content=tree.state if tree is not None else SwState.INITIAL,
        progress=progress,
        updating=decision.step in _UPDATING,
        test_left=left,
        retry_counter=decision.memory.retry_counter or 0,
        reboot=decision.reboot,
        trouble=_trouble(decision.why or _slots_trouble(facts), before, inputs.now),
    )


def _slots_trouble(facts: Facts) -> str:
    trouble = facts.found.trouble
    return trouble.why if trouble is not None and facts.found.install is None else ""


def _trouble(why: str, before: BaseOsStatus | None, now: float) -> Trouble | None:
    if not why:
        return None
    known = before.trouble if before is not None else None
    if known is not None and known.why == why:
        return known
    return Trouble(why=why, since=now)


def _told(slot: Slot, facts: Facts, memory: UpdateMemory) -> Slot:
    """With why what is in it failed, where it did."""
    failed = slot.state is SlotState.INPROGRESS and not slot.current
    if not failed or not memory.failure:
        return slot
    return replace(slot, trouble=Trouble(why=memory.failure, since=memory.failed_at))
