"""Snapshots that are taken before an update. Pure.

Room for one is looked for while the app still runs; only when there is enough is the app stopped.
What cannot be kept is not updated: then the app goes on as it was, and says why.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, AppInstanceApplied, Saved
from edgevirt.model.base import Severity, SwState, Trouble
from edgevirt.model.domain import VirtualizationMode
from edgevirt.model.ids import AppId, SnapshotId
from edgevirt.model.snapshot import (
    MachineState,
    Snapshot,
    SnapshotReport,
    SnapshotStatus,
    SnapshotType,
    SnapshotWish,
)
from edgevirt.model.volume import volume_key
from edgevirt.node.apps.changes import same_content
from edgevirt.node.apps.facts import Facts
from edgevirt.node.apps.gates import Wait

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNNAMED: Final = "the controller names it no more; after a while it is deleted"
_HINT: Final = "remove snapshots or other volumes, or keep no snapshots of this app"


class Secured(msgspec.Struct, frozen=True):
    """`wait`: not yet. `refused`: the update is not made, `wait` says why."""

    applied: AppInstanceApplied
    wait: Wait | None = None
    refused: bool = False


def secure(
    applied: AppInstanceApplied, target: AppInstance, facts: Facts, now: float, *, down: bool
) -> Secured:
    """What is to be kept before the app becomes `target`. `down`: it is stopped. Without a wait
    it may be stopped, or, when it is, changed.
    """
    pending = _pending(applied)
    if pending is not None and pending.taking and down:
        return _take(applied, pending, facts, now)
    if not _is_due(applied, target, facts.wanted.snapshot):
        return Secured(withdraw(applied))
    update = (target.restart_counter, target.purge_counter)
    if pending is None or pending.update != update:
        pending = _begin(applied, target, facts, now)
    applied = _with(applied, pending)
    if pending.why:
        return _refuse(applied, pending.why, now)
    told = _told(pending, facts)
    if told is not None and told.state == SwState.INITIAL and told.trouble is not None:
        return _refuse(applied, told.trouble.why, now, told.trouble)
    if told is None or told.state == SwState.INITIAL:
        return Secured(applied, Wait(SwState.HALTED, "looking for room for a snapshot"))
    pending = replace(pending, taking=True)
    applied = _with(applied, pending)
    return _take(applied, pending, facts, now) if down else Secured(applied)


def _take(applied: AppInstanceApplied, pending: Saved, facts: Facts, now: float) -> Secured:
    told, state = _told(pending, facts), state_of(pending, facts.states)
    unkept = state is not None and state.trouble is not None and not state.kept
    if unkept or (told is not None and told.state == SwState.FAILED):
        failed = state if unkept else told
        why = failed.trouble.why if failed and failed.trouble else "the disk failed"
        applied = _with(applied, replace(pending, taking=False, why=why))
        return _refuse(applied, why, now)
    if told is None or told.state != SwState.CREATED_VOLUME:
        trouble = told.trouble if told is not None else None
        return Secured(applied, Wait(SwState.HALTED, "taking a snapshot of it", trouble))
    return Secured(_with(applied, replace(pending, taking=False, taken_at=now)))


def _refuse(
    applied: AppInstanceApplied, why: str, now: float, told: Trouble | None = None
) -> Secured:
    trouble = Trouble(why=f"cannot update: {why}", since=now, hint=_HINT)
    if told is not None:
        trouble = replace(told, why=trouble.why, hint=_HINT)
    wait = Wait(SwState.INSTALLED, "no snapshot can be taken", trouble)
    return Secured(applied, wait, refused=True)


def _is_due(applied: AppInstanceApplied, target: AppInstance, wish: SnapshotWish) -> bool:
    """Whether there is anything to go back to, and anything to go back from."""
    ran = applied.domain is not None
    return wish.most > 0 and ran and not same_content(applied.app, target)


def _begin(applied: AppInstanceApplied, target: AppInstance, facts: Facts, now: float) -> Saved:
    """What `target` goes on to use is copied. The rest is nobody's afterwards, and moves."""
    update = (target.restart_counter, target.purge_counter)
    own = [key for key in _keys(applied.app) if key not in facts.elsewhere]
    stay = {*_keys(target), *facts.named}
    id, kind = _name(applied, facts, f"{update} {now}")
    return Saved(
        id=id,
        app=applied.app,
        begun=now,
        update=update,
        copies=tuple(key for key in own if key in stay),
        moves=tuple(key for key in own if key not in stay),
        type=kind,
    )


def _name(applied: AppInstanceApplied, facts: Facts, salt: str) -> tuple[SnapshotId, int]:
    """The first that the controller offers, or one of our own."""
    known = {one.id for one in applied.snapshots if one.taken} | set(facts.snapshots)
    failed = {one.id for one in applied.snapshots if not one.taken}
    for name in facts.wanted.snapshot.names:
        id = name.id.lower()
        offered = name.type in (SnapshotType.APP_UPDATE, SnapshotType.UNSPECIFIED)
        if offered and _ID.fullmatch(id) and (id not in known or id in failed):
            return SnapshotId(id), name.type
    own = (uuid.uuid5(uuid.NAMESPACE_OID, f"{applied.app.id} {salt} {n}") for n in count())
    free = next(id for id in map(str, own) if id not in known)
    return SnapshotId(free), SnapshotType.APP_UPDATE


def withdraw(applied: AppInstanceApplied) -> AppInstanceApplied:
    """No update is under way any more: none that waits for one is needed."""
    if _pending(applied) is None or is_taking(applied):
        return applied
    return replace(applied, snapshots=tuple(one for one in applied.snapshots if one.taken))


def is_taking(applied: AppInstanceApplied | None) -> bool:
    """One is being taken, so its volumes must be left alone."""
    pending = _pending(applied) if applied is not None else None
    return pending is not None and pending.taking


def is_between(applied: AppInstanceApplied) -> bool:
    """It still is what it was before an update or a rollback that is under way."""
    return bool(applied.rolling) or _pending(applied) is not None


def tidy(
    applied: AppInstanceApplied, wish: SnapshotWish, now: float, grace: float
) -> AppInstanceApplied:
    """Without those that the controller removed, or that are too many; but never without the one
    that the app is brought back to.

    A controller that lost its memory names them no more, as one does that wants them gone. So they
    stay for a while, and are told of, with a word that it does not name them. `grace`: seconds.
    """
    keep = applied.rolling
    names = {name.id.lower() for name in wish.names}
    found: list[Saved] = []
    for one in applied.snapshots:
        if one.taken and one.id in names:
            one = replace(one, listed=True, unnamed_since=0.0)
        elif one.listed and not 0.0 < one.unnamed_since <= now:
            one = replace(one, unnamed_since=now)
        if one.id == keep or not _is_over(one, now, grace):
            found.append(one)
    surplus = sum(one.taken for one in found) - wish.most
    for one in tuple(found):
        if surplus > 0 and one.taken and one.id != keep:
            found.remove(one)
            surplus -= 1
    return replace(applied, snapshots=tuple(found))


def _is_over(one: Saved, now: float, grace: float) -> bool:
    return one.unnamed_since > 0.0 and now - one.unnamed_since >= grace


def seconds_left(applied: AppInstanceApplied, now: float, grace: float) -> float | None:
    """Until the next one goes that is not named any more."""
    left = [one.unnamed_since + grace - now for one in applied.snapshots if one.unnamed_since]
    return min(left, default=None)


def find(applied: AppInstanceApplied, id: str) -> Saved:
    return next(one for one in applied.snapshots if one.id == id)


def specs(
    applied: AppInstanceApplied,
    counter: int,
    states: Mapping[str, MachineState],
    *,
    down: bool,
    commit: bool,
) -> Iterator[Snapshot]:
    """What volumes and domains are told. `counter`: of the rollback; `down`: the app is stopped;
    `commit`: what it has may be replaced.
    """
    for one in applied.snapshots:
        rolling = one.id == applied.rolling
        taking, machine = one.taking and down, is_machine(one)
        if not one.why:
            yield Snapshot(
                id=one.id,
                app=applied.app.id,
                begun=one.begun,
                copies=one.copies,
                moves=one.moves,
                take=taking and (not machine or _is_state_kept(one, states)),
                machine=machine,
                take_state=taking and machine,
                taken=one.taken,
                restore=counter if rolling else 0,
                commit=rolling and commit,
            )


def is_machine(one: Saved) -> bool:
    """It has something besides its volumes."""
    return one.app.resources.mode is not VirtualizationMode.NOHYPER


def state_of(one: Saved, states: Mapping[str, MachineState]) -> MachineState | None:
    """Of this one, not of an earlier attempt."""
    told = states.get(one.id)
    return told if told is not None and told.begun == one.begun else None


def _is_state_kept(one: Saved, states: Mapping[str, MachineState]) -> bool:
    told = state_of(one, states)
    return told is not None and told.kept


def of_app(app: AppId, told: Mapping[str, SnapshotStatus]) -> dict[str, SnapshotStatus]:
    return {key: status for key, status in told.items() if status.app == app}


def reports(applied: AppInstanceApplied, facts: Facts, now: float) -> Iterator[SnapshotReport]:
    """Also of those that are on their way out, so that nobody believes them gone too early."""
    for one in applied.snapshots:
        if not (one.taking or one.taken or one.why):
            continue
        told = _told(one, facts)
        yield SnapshotReport(
            id=one.id,
            version=one.app.version,
            taken_at=one.taken_at,
            type=one.type,
            size=told.size if told is not None else 0,
            trouble=_trouble(one, told, applied, now),
        )
    known = {one.id for one in applied.snapshots}
    for key in sorted(set(facts.snapshots) - known):
        told = facts.snapshots[key]
        if told.state == SwState.CREATED_VOLUME:
            trouble = told.trouble or _notice("being deleted", now)
            yield SnapshotReport(
                id=told.id, version="", taken_at=told.begun, size=told.size, trouble=trouble
            )


def _trouble(
    one: Saved, told: SnapshotStatus | None, applied: AppInstanceApplied, now: float
) -> Trouble | None:
    if told is not None and told.trouble is not None:
        return told.trouble
    if one.why:
        return Trouble(why=one.why, since=one.begun)
    if one.taking:
        return _notice("being taken", now)
    if one.id == applied.rolling:
        return _notice("its app is rolled back to it", now)
    return _notice(_UNNAMED, one.unnamed_since) if one.unnamed_since else None


def _notice(what: str, now: float) -> Trouble:
    return Trouble(why=what, since=now, severity=Severity.NOTICE)


def _pending(applied: AppInstanceApplied) -> Saved | None:
    return next((one for one in applied.snapshots if not one.taken), None)


def _with(applied: AppInstanceApplied, pending: Saved) -> AppInstanceApplied:
    taken = tuple(one for one in applied.snapshots if one.taken)
    return replace(applied, snapshots=(*taken, pending))


def _told(one: Saved, facts: Facts) -> SnapshotStatus | None:
    """Of this one, not of an earlier attempt."""
    told = facts.snapshots.get(one.id)
    return told if told is not None and told.begun == one.begun else None


def _keys(app: AppInstance) -> list[str]:
    return [volume_key(ref.volume, ref.generation) for ref in app.volumes]
