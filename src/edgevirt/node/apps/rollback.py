"""Going back to a snapshot, and what is in force afterwards. Pure.

The config of before counts for more than the controller's, until that becomes another one or takes
the rollback back. A restart restarts what is in force.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace
from msgspec.structs import replace as changed

from edgevirt.model.app import AppInstance, AppInstanceApplied, Override, Saved
from edgevirt.model.base import SwState, Trouble
from edgevirt.node.apps import snapshots
from edgevirt.node.apps.changes import merge_live, same_content
from edgevirt.node.apps.facts import Facts
from edgevirt.node.apps.gates import Wait

_COUNTERS: Final = 1 << 32


def settle(facts: Facts) -> Facts:
    """Decides what is wanted of the app: the controller's config, or one of before."""
    config = facts.wanted
    wish = config.snapshot
    applied = facts.applied or AppInstanceApplied(app=config)
    done = applied.rollback_counter
    if done is None:  # an order from before its time is recorded, not obeyed
        done = wish.rollback_counter
    is_ordered = wish.rollback_counter > done
    override, rolling = applied.override, ""
    if override is not None and not same_content(override.instead_of, config):
        override = None
    active = wish.active.lower()
    if is_ordered and not active:
        override, done = None, wish.rollback_counter
    elif is_ordered and not snapshots.is_taking(applied):
        there = [one.id for one in applied.snapshots if one.id == active and one.taken]
        rolling = there[0] if there else ""
        applied = snapshots.withdraw(applied) if rolling else applied
    if rolling and _is_restored(snapshots.find(applied, rolling), facts):
        saved = snapshots.find(applied, rolling)
        override = Override(snapshot=saved.id, app=saved.app, instead_of=config)
        done, rolling = wish.rollback_counter, ""
        applied = replace(applied, app=merge_live(saved.app, config))
    applied = replace(applied, rollback_counter=done, override=override, rolling=rolling)
    wanted = config if override is None else _in_force(override, config)
    return changed(facts, applied=applied, wanted=wanted, config=config)


def _in_force(override: Override, config: AppInstance) -> AppInstance:
    """The old config, with what of the controller's applies at once; and its restarts."""
    asked = config.restart_counter - override.instead_of.restart_counter
    counter = (override.app.restart_counter + asked) % _COUNTERS
    return replace(merge_live(override.app, config), restart_counter=counter)


def _is_restored(saved: Saved, facts: Facts) -> bool:
    """It has all that it had then. That is done only while the app is stopped."""
    counter = facts.wanted.snapshot.rollback_counter
    told = facts.snapshots.get(saved.id)
    if told is None or told.restored != counter:
        return False
    state = snapshots.state_of(saved, facts.states)
    return not snapshots.is_machine(saved) or (state is not None and state.restored == counter)


def are_copies_ready(saved: Saved, facts: Facts) -> bool:
    told = facts.snapshots.get(saved.id)
    return told is not None and told.prepared == facts.wanted.snapshot.rollback_counter


def await_volumes(saved: Saved, facts: Facts) -> Wait:
    told = facts.snapshots.get(saved.id)
    trouble = told.trouble if told is not None else None
    state = snapshots.state_of(saved, facts.states)
    if trouble is None and state is not None:
        trouble = state.trouble
    return Wait(SwState.HALTED, f"rolling back to snapshot {saved.id}", trouble)


def complaint(facts: Facts, now: float) -> Trouble | None:
    """Of an order that cannot be obeyed."""
    applied = facts.applied
    if applied is None or applied.rolling or snapshots.is_taking(applied):
        return None
    wish = facts.wanted.snapshot
    if wish.rollback_counter <= (applied.rollback_counter or 0):
        return None
    return Trouble(why=f"cannot roll back: there is no snapshot {wish.active}", since=now)
