"""What to do about the wanted version, from what is in the slots. Pure.

The slots' states are the memory of an update: what was tried and failed is the slot that is
`inprogress` while the other one runs. So a power cut at any moment is not forgotten.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from edgevirt.model.base import SwState
from edgevirt.model.baseos import (
    BaseOs,
    Install,
    Slot,
    SlotPlan,
    SlotsFound,
    SlotState,
    UpdateMemory,
    UpdateStep,
)
from edgevirt.model.content import ContentTreeStatus
from edgevirt.model.machine import Boot, BootReason

ARCHITECTURES = frozenset({"amd64", "arm64", "riscv64"})


class Facts(msgspec.Struct, frozen=True):
    """What is known. `boot`: how this run of the node began, and why the one before ended."""

    wanted: BaseOs | None
    tree: ContentTreeStatus | None
    found: SlotsFound
    memory: UpdateMemory
    boot: Boot
    fallback_counter: int
    now: float

    @property
    def current(self) -> Slot:
        return self.found.slots[0]

    @property
    def other(self) -> Slot | None:
        return self.found.slots[1] if len(self.found.slots) > 1 else None


class Decision(msgspec.Struct, frozen=True):
    """`why`: «cannot X: why», of a step that failed or waits. `reboot`: what for."""

    step: UpdateStep
    memory: UpdateMemory
    why: str = ""
    progress: int = 0
    plan: SlotPlan = msgspec.field(default_factory=SlotPlan)
    reboot: str = ""
    reason: BootReason = BootReason.UPDATE


def remember(facts: Facts) -> UpdateMemory:
    """What this start of the node tells of the one before, and counters that are seen first."""
    memory = facts.memory
    other = facts.other
    if memory.fallback_counter is None:
        memory = replace(memory, fallback_counter=facts.fallback_counter)
    wanted = facts.wanted
    if wanted is not None and wanted.retry_counter is not None and memory.retry_counter is None:
        memory = replace(memory, retry_counter=wanted.retry_counter)
    failed = (
        other is not None
        and other.state is SlotState.INPROGRESS
        and facts.current.state is not SlotState.INPROGRESS
    )
    if not failed and memory.rearmed:
        return replace(memory, rearmed="")
    known = {memory.failed_version, memory.rearmed}
    if failed and other is not None and (other.version or "?") not in known:
        memory = replace(
            memory,
            failed_version=other.version or "?",
            failure=facts.boot.text or facts.boot.reason.name.lower(),
            failed_at=facts.now,
        )
    return memory


def decide(facts: Facts, memory: UpdateMemory) -> Decision:
    """For a node whose version is not under test. `memory`: as `remember` gave it."""
    other = facts.other
    if facts.fallback_counter != memory.fallback_counter:
        return _go_back(facts, memory)
    if other is not None and _is_left(facts.current, other, memory):
        return _restart_into(f"{other.version}, by force.fallback.counter", memory)
    wanted = facts.wanted
    if wanted is None:
        return _tidy(Decision(UpdateStep.IDLE, memory), other)
    if wanted.version == facts.current.version:
        return _tidy(Decision(UpdateStep.DONE, _heed_retry(memory, wanted), progress=100), other)
    if other is None:
        why = f"cannot update to {wanted.version}: this node has one slot alone"
        return Decision(UpdateStep.FAILED, memory, why)
    refused = _is_refused(wanted, memory)
    if refused:
        why = (
            f"cannot update to {wanted.version}: it failed before: {memory.failure}; "
            "it is tried again when its retry counter changes"
        )
        return Decision(UpdateStep.FAILED, memory, why)
    memory = _heed_retry(memory, wanted)
    if other.state is SlotState.UPDATING and other.version == wanted.version:
        return _restart_into(wanted.version, memory)
    return _install(facts, wanted, other, memory)


def _is_left(current: Slot, other: Slot, memory: UpdateMemory) -> bool:
    """The version that runs was asked to be left, and the other one is to be tried."""
    return memory.failed_version == current.version and other.state is SlotState.UPDATING


def _is_refused(wanted: BaseOs, memory: UpdateMemory) -> bool:
    if memory.failed_version != wanted.version:
        return False
    return wanted.retry_counter is None or wanted.retry_counter == memory.retry_counter


def _heed_retry(memory: UpdateMemory, wanted: BaseOs) -> UpdateMemory:
    """The counter, and with a new one: what failed may be tried again."""
    if wanted.retry_counter is None or wanted.retry_counter == memory.retry_counter:
        return memory
    return replace(
        memory,
        retry_counter=wanted.retry_counter,
        failed_version="",
        failure="",
        failed_at=0.0,
        rearmed=memory.failed_version,
    )


def _tidy(decision: Decision, other: Slot | None) -> Decision:
    """What was to be tried at the next start and is no longer wanted must not be."""
    if other is None or other.state is not SlotState.UPDATING:
        return decision
    plan = SlotPlan(states=((other.label, SlotState.UNUSED),))
    return Decision(decision.step, decision.memory, decision.why, decision.progress, plan)


def _restart_into(version: str, memory: UpdateMemory) -> Decision:
    return Decision(UpdateStep.REBOOTING, memory, reboot=f"update to {version}")


def _install(facts: Facts, wanted: BaseOs, other: Slot, memory: UpdateMemory) -> Decision:
    waiting = _await_content(facts, wanted, other, memory)
    if waiting is not None:
        return waiting
    tree = facts.tree
    assert tree is not None
    assert tree.digest is not None
    install = Install(
        label=other.label,
        path=tree.path,
        digest=tree.path.rpartition("/")[2],
        version=wanted.version,
        attempt=memory.retry_counter or 0,
    )
    plan = SlotPlan(install=install)
    found = facts.found
    if found.install != install:
        return Decision(UpdateStep.WRITING, memory, plan=plan)
    if found.installed:
        switch = SlotPlan(install=install, states=((other.label, SlotState.UPDATING),))
        return Decision(UpdateStep.WRITING, memory, progress=100, plan=switch)
    if found.trouble is not None:
        return Decision(UpdateStep.FAILED, memory, found.trouble.why, plan=plan)
    return Decision(UpdateStep.WRITING, memory, progress=found.progress, plan=plan)


def _await_content(
    facts: Facts, wanted: BaseOs, other: Slot, memory: UpdateMemory
) -> Decision | None:
    """What keeps the version from being installed; None: nothing."""
    tree, what = facts.tree, f"cannot update to {wanted.version}"
    if not wanted.content_tree:
        return Decision(UpdateStep.FAILED, memory, f"{what}: its config names no image")
    if tree is None:
        return Decision(UpdateStep.FETCHING, memory)
    if tree.state is not SwState.LOADED:
        why = tree.trouble.why if tree.trouble is not None else ""
        return Decision(UpdateStep.FETCHING, memory, why, progress=tree.progress)
    if not tree.path:
        return Decision(UpdateStep.FAILED, memory, f"{what}: its image is not one file")
    if _other_architecture(wanted.version, facts.current.version):
        why = f"{what}: it is for another architecture than {facts.current.version}"
        return Decision(UpdateStep.FAILED, memory, why)
    if not wanted.activate:
        return Decision(UpdateStep.FETCHING, memory, progress=100)
    if tree.size > other.size:
        why = f"{what}: it has {tree.size} bytes, the slot {other.label} {other.size}"
        return Decision(UpdateStep.FAILED, memory, why)
    return None


def _other_architecture(wanted: str, present: str) -> bool:
    ours, theirs = present.rpartition("-")[2], wanted.rpartition("-")[2]
    return {ours, theirs} <= ARCHITECTURES and ours != theirs


def _go_back(facts: Facts, memory: UpdateMemory) -> Decision:
    """force.fallback.counter: to the version in the other slot, once for each change."""
    heeded = replace(memory, fallback_counter=facts.fallback_counter)
    other, current = facts.other, facts.current
    fit = (
        other is not None
        and other.version
        and current.state is SlotState.ACTIVE
        and other.state in {SlotState.UNUSED, SlotState.UPDATING}
    )
    if not fit or other is None:
        why = "cannot go back to another version: there is none that worked"
        return Decision(UpdateStep.FAILED, heeded, why)
    if other.state is SlotState.UPDATING:
        # the version that is left is refused, or it would be installed again at once
        left = replace(
            heeded,
            failed_version=current.version,
            failure=f"force.fallback.counter {facts.fallback_counter} asked to leave it",
            failed_at=facts.now,
        )
        return _restart_into(f"{other.version}, by force.fallback.counter", left)
    plan = SlotPlan(states=((other.label, SlotState.UPDATING),))
    return Decision(UpdateStep.REBOOTING, memory, plan=plan)
