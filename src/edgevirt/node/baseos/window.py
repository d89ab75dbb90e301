"""The clocks of an update's test, and of a node that cannot reach its controller. Pure.

A version is good when the node, running it, has had a config from its controller and has been able
to reach it for `timer.test.baseimage.update`; an answer without a config (403, attestation is to
come) is contact, and begins that time anew. All is monotonic time: a clock that is set changes
nothing.
"""

from __future__ import annotations

import msgspec

from edgevirt.model.baseos import UpdateTest, UpdateTimes
from edgevirt.model.machine import BootReason
from edgevirt.model.node import AgentState, AgentStatus
from edgevirt.model.trust import VaultState, VaultStatus

_VAULT_OPEN = frozenset({VaultState.OPEN, VaultState.DISABLED})


class Verdict(msgspec.Struct, frozen=True):
    """`good`: the version is. `reason`: why the node is to restart. `wait`: seconds until this
    may change by itself; `left`: of the test, while its clock runs.
    """

    good: bool = False
    reason: BootReason | None = None
    why: str = ""
    wait: float | None = None
    left: float | None = None


def follow(before: UpdateTest | None, agent: AgentStatus | None, now: float) -> UpdateTest:
    """The clocks at `now`. Silence counts from the first look: a node that never had contact has
    been silent all the time."""
    before = before or UpdateTest(silent_from=now)
    reached = agent is not None and agent.state is AgentState.ONLINE
    known = agent is not None and agent.config_from == "controller"
    silent = None if reached else now if before.silent_from is None else before.silent_from
    config = before.config_at
    if config is None and known:
        config = now
    window = before.window_from
    if agent is not None and agent.refused:
        window = None
    elif window is None and reached and known:
        window = now
    return UpdateTest(silent_from=silent, config_at=config, window_from=window)


def judge(test: UpdateTest, vault: VaultStatus | None, times: UpdateTimes, now: float) -> Verdict:
    """Of a version that is being tested."""
    waits = []
    closed = vault is not None and vault.state not in _VAULT_OPEN
    if closed and test.config_at is not None:
        left = test.config_at + times.vault - now
        if left <= 0:
            said = vault.trouble.why if vault is not None and vault.trouble is not None else ""
            why = f"the vault did not open within {times.vault:.0f} s" + (said and f": {said}")
            return Verdict(reason=BootReason.VAULT_FAILED, why=why)
        waits.append(left)
    if test.silent_from is not None:
        left = test.silent_from + times.silent - now
        if left <= 0:
            why = f"the version under test did not reach the controller for {times.silent:.0f} s"
            return Verdict(reason=BootReason.FALLBACK, why=why)
        return Verdict(wait=min([left, *waits]))
    if test.window_from is None:
        return Verdict(wait=min(waits, default=None))
    left = max(0.0, test.window_from + times.test - now)
    if left > 0:
        return Verdict(wait=min([left, *waits]), left=left)
    return Verdict(good=not closed, wait=min(waits, default=None), left=0.0)


def judge_alone(test: UpdateTest, times: UpdateTimes, now: float) -> Verdict:
    """Of a version that is not under test: a node that reaches nobody for days tries a restart."""
    if test.silent_from is None:
        return Verdict()
    left = test.silent_from + times.alone - now
    if left > 0:
        return Verdict(wait=left)
    why = f"the controller was not reached for {times.alone:.0f} s"
    return Verdict(reason=BootReason.DISCONNECT, why=why)
