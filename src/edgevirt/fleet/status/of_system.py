"""From a node's software list to how far its update is: steps, words, what is told of them. Pure.

The list's first entry is what runs; the others are the other slot, and versions on their way to
it. An entry of the wanted version that is `inprogress` and does not run was tried and failed: the
node forgets it only when the retry counter moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from edgevirt.fleet.objects.base.object import Condition, timestamp
from edgevirt.fleet.objects.node.os import NodeOSStatus, OSSlot
from edgevirt.wire.messages import info

WAITING: Final = "Waiting"
DOWNLOADING: Final = "Downloading"
VERIFYING: Final = "Verifying"
STAGED: Final = "Staged"
DEFERRED: Final = "Deferred"
WRITING: Final = "Writing"
REBOOTING: Final = "Rebooting"
TESTING: Final = "Testing"
UPDATED: Final = "Updated"
FAILED: Final = "Failed"
FELL_BACK: Final = "FellBack"

MAX_SLOTS: Final = 8
_INPROGRESS: Final = "inprogress"
_UPDATING: Final = "updating"
_OVER: Final = frozenset({UPDATED, FAILED, FELL_BACK})
_AT_WORK: Final = frozenset({DOWNLOADING, VERIFYING, DEFERRED, WRITING, REBOOTING, TESTING})
_MOST_WORDS: Final = 500
_RETRY: Final = "refused until spec.os.retryCounter is raised"


class Wanted(NamedTuple):
    """`waiting`: why the node does not get it; empty: it is in its config."""

    version: str
    activate: bool = True
    waiting: str = ""


class Told(NamedTuple):
    """An event about the node."""

    reason: str
    message: str
    warning: bool = False


class _Step(NamedTuple):
    name: str
    words: str


def fill(
    status: NodeOSStatus | None, wanted: Wanted | None, device: info.ZInfoDevice, now: float
) -> NodeOSStatus | None:
    """After the node told of `device`; None: it told of no software, and none is wanted."""
    if not device.swList and status is not None:
        return status  # it has just started, and does not know yet
    slots = tuple(_slots(device))[:MAX_SLOTS]
    if not slots and wanted is None:
        return None
    if wanted is None:
        running = slots[0].version or "a version that it does not tell"
        return NodeOSStatus(slots=slots, phase=f"runs {running}")
    step = _find_step(wanted, device)
    return _at(status, wanted, step, slots, now)


def want(status: NodeOSStatus | None, wanted: Wanted | None, now: float) -> NodeOSStatus | None:
    """Before the node has told anything of what it should run now."""
    slots = status.slots if status is not None else ()
    if wanted is None:
        return None if status is None else NodeOSStatus(slots=slots, phase=status.phase)
    same = status is not None and status.version == wanted.version
    if status is not None and same and not wanted.waiting and status.step != WAITING:
        return status
    if slots and slots[0].version == wanted.version and slots[0].state != _INPROGRESS:
        return _at(status, wanted, _Step(UPDATED, f"runs {wanted.version}"), slots, now)
    return _at(status, wanted, _waiting(wanted), slots, now)


def condition(status: NodeOSStatus) -> Condition | None:
    """`OSUpdated`; None: any version will do."""
    if not status.version:
        return None
    return Condition(
        type="OSUpdated",
        status="True" if status.step == UPDATED else "False",
        reason=status.step,
        message=status.phase[:_MOST_WORDS],
    )


def events(before: NodeOSStatus | None, after: NodeOSStatus | None) -> Iterator[Told]:
    """What is worth telling of the way from one to the other."""
    if after is None or not after.version:
        return
    old = before if before is not None and before.version == after.version else NodeOSStatus()
    if old.step == after.step and (after.step != FAILED or old.phase == after.phase):
        return
    begun = old.begun is not None
    if after.begun is not None and not begun:
        running = before.slots[0].version if before is not None and before.slots else ""
        came = f" (it runs {running})" if running else ""
        yield Told("UpdateStarted", f"the node begins to update to {after.version}{came}")
    if after.step == TESTING:
        yield Told("Testing", f"{after.version} runs, and is tested")
    elif after.step == UPDATED and (begun or (before is not None and _ran_another(before, after))):
        yield Told("Committed", f"{after.version} works: it stays")
    elif after.step == FELL_BACK:
        yield Told("FellBack", after.phase, warning=True)
    elif after.step == FAILED:
        yield Told("UpdateFailed", after.phase, warning=True)


def _ran_another(before: NodeOSStatus, after: NodeOSStatus) -> bool:
    return bool(before.slots) and before.slots[0].version != after.version


def _at(
    status: NodeOSStatus | None,
    wanted: Wanted,
    step: _Step,
    slots: tuple[OSSlot, ...],
    now: float,
) -> NodeOSStatus:
    same = status is not None and (status.version, status.step) == (wanted.version, step.name)
    since = status.since if status is not None and same else timestamp(now)
    begun = status.begun if status is not None and status.version == wanted.version else None
    if step.name in _OVER:
        begun = None
    elif step.name in _AT_WORK:
        begun = begun or timestamp(now)
    words = step.words
    if step.name == TESTING:
        words = f"testing since {since}{words}"
    return NodeOSStatus(
        version=wanted.version,
        step=step.name,
        phase=words[:_MOST_WORDS],
        since=since,
        begun=begun,
        waiting=wanted.waiting,
        slots=slots,
    )


def _slots(device: info.ZInfoDevice) -> Iterator[OSSlot]:
    for index, software in enumerate(device.swList):
        if index and not software.partitionLabel:
            continue  # on its way into a slot
        yield OSSlot(
            label=software.partitionLabel,
            version=software.shortVersion,
            state=software.partitionState,
            running=index == 0,
            error=software.swErr.description[:_MOST_WORDS],
        )


# -- the step that the node is at --


def _find_step(wanted: Wanted, device: info.ZInfoDevice) -> _Step:
    running = device.swList[0] if device.swList else info.ZInfoDevSW()
    if running.shortVersion == wanted.version:
        return _step_of_running(running)
    for software in device.swList[1:]:
        if software.shortVersion == wanted.version:
            return _step_of_other(wanted, software, running.shortVersion)
    return _waiting(wanted)


def _waiting(wanted: Wanted) -> _Step:
    if wanted.waiting:
        return _Step(WAITING, f"cannot update: {wanted.waiting}")
    return _Step(WAITING, "waits for the node to take it up")


def _step_of_running(software: info.ZInfoDevSW) -> _Step:
    testing = software.subStatus in (info.UPDATE_TESTING, info.UPDATE_NEED_TEST_CONFIRM)
    if software.partitionState == _INPROGRESS or testing:
        more = f" ({software.subStatusStr})" if software.subStatusStr else ""
        return _Step(TESTING, more)
    return _Step(UPDATED, f"runs {software.shortVersion}")


def _step_of_other(wanted: Wanted, software: info.ZInfoDevSW, running: str) -> _Step:
    why = software.swErr.description
    fell_back = software.userStatus == info.FALLBACK or software.partitionState == _INPROGRESS
    if fell_back:
        reason = why or "it did not say why"
        words = f"cannot run {wanted.version}: {reason}; fell back to {running}; {_RETRY}"
        return _Step(FELL_BACK, words)
    if software.userStatus == info.FAILED or (why and software.status == info.ERROR):
        return _Step(FAILED, f"cannot update to {wanted.version}: {why or 'it did not say why'}")
    step = _step_by_status(wanted, software)
    return _Step(step.name, f"{step.words}; {why}") if why else step


def _step_by_status(wanted: Wanted, software: info.ZInfoDevSW) -> _Step:
    sub, told = software.subStatus, software.subStatusStr
    if sub == info.UPDATE_DEFERRED:
        more = f": {told}" if told and told != "deferred" else ""
        return _Step(DEFERRED, f"put off{more}")
    if sub == info.UPDATE_REBOOTING or software.partitionState == _UPDATING:
        return _Step(REBOOTING, f"written; reboots into {wanted.version}")
    if sub == info.UPDATE_INITIALIZING or software.userStatus == info.UPDATING:
        return _Step(WRITING, f"writing{_percent(software.subStatusProgress)}")
    if sub == info.VERIFY_INPROGRESS:
        return _Step(VERIFYING, "verifying what was downloaded")
    if software.userStatus == info.DOWNLOADING or sub == info.DOWNLOAD_INPROGRESS:
        return _Step(DOWNLOADING, f"downloading{_percent(software.downloadProgress)}")
    if not wanted.activate:
        return _Step(STAGED, "fetched and verified; waits for spec.os.activate")
    if software.userStatus == info.DOWNLOAD_DONE:
        return _Step(VERIFYING, "downloaded")
    return _waiting(wanted)


def _percent(progress: int) -> str:
    return f" {min(progress, 100)}%" if progress else ""
