"""The slots of the node's operating system as a controller is told of them (`ZInfoDevSW`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.baseos import BaseOsStatus, Slot, SlotState, UpdateStep
from edgevirt.wire.convert.reports import STATES, error_info
from edgevirt.wire.messages import info

_VERIFYING: Final = frozenset({SwState.DOWNLOADED, SwState.VERIFYING, SwState.VERIFIED})
_FETCHED: Final = frozenset({SwState.LOADED})


def software(
    slots: Iterable[Slot], status: BaseOsStatus | None, version: str
) -> list[info.ZInfoDevSW]:
    """The running one first. `version`: of a program that runs in no slot; empty: it runs in one,
    and while that is not known nothing is told: whoever reads it takes the first for it.
    """
    known = sorted(slots, key=lambda slot: not slot.current)
    if known and not known[0].current:
        return []
    told = [_slot(slot, status) for slot in known]
    if status is not None and _is_on_its_way(known, status):
        coming = info.ZInfoDevSW()
        _fill_coming(coming, status)
        if status.trouble is not None:
            trouble = error_info(status.trouble, info.ENTITY_BASE_OS, status.version)
            coming.swErr.CopyFrom(trouble)
        told.append(coming)
    if told or not version:
        return told
    return [
        info.ZInfoDevSW(
            activated=True,
            partitionLabel="IMGA",
            partitionState="active",
            status=info.INSTALLED,
            shortVersion=version,
            userStatus=info.UPDATED,
            downloadProgress=100,
        )
    ]


_OUTSIDE: Final = frozenset({UpdateStep.FETCHING, UpdateStep.FAILED})


def _is_on_its_way(slots: list[Slot], status: BaseOsStatus) -> bool:
    """The wanted version is in no slot yet: it is told apart, without a partition."""
    here = any(slot.version == status.version for slot in slots)
    return bool(slots) and bool(status.version) and status.step in _OUTSIDE and not here


def _slot(slot: Slot, status: BaseOsStatus | None) -> info.ZInfoDevSW:
    message = info.ZInfoDevSW(
        activated=slot.current,
        partitionLabel=slot.label,
        partitionDevice=slot.device,
        partitionState=slot.state.value,
        shortVersion=slot.version,
    )
    if slot.version:
        message.status = info.INSTALLED
        message.downloadProgress = 100
    if slot.current:
        _fill_running(message, slot, status)
    elif slot.state is SlotState.INPROGRESS:
        message.userStatus = info.FAILED
    elif status is not None and _is_for(slot, status):
        _fill_coming(message, status)
    trouble = _trouble(slot, status)
    if trouble is not None:
        message.swErr.CopyFrom(error_info(trouble, info.ENTITY_BASE_OS, slot.label))
    return message


def _fill_running(message: info.ZInfoDevSW, slot: Slot, status: BaseOsStatus | None) -> None:
    if slot.state is not SlotState.INPROGRESS:
        message.userStatus = info.UPDATED
        return
    message.userStatus = info.UPDATING
    message.subStatus = info.UPDATE_TESTING
    message.subStatusStr = "being tested"
    if status is not None:
        message.subStatusProgress = status.progress
        if status.test_left is not None:
            message.subStatusStr = f"being tested for {status.test_left:.0f} s more"


def _is_for(slot: Slot, status: BaseOsStatus) -> bool:
    """What is told of the wanted version is told of this slot: it is in it, or on its way there."""
    if status.step in {UpdateStep.WRITING, UpdateStep.REBOOTING}:
        return True
    return status.step in _OUTSIDE and slot.version == status.version


def _fill_coming(message: info.ZInfoDevSW, status: BaseOsStatus) -> None:
    step = status.step
    message.shortVersion = status.version
    message.status = STATES[status.content]
    message.subStatusStr = _words(step, status)
    message.subStatusProgress = status.progress
    if step is UpdateStep.FAILED:
        message.userStatus = info.FAILED
        message.status = info.ERROR
    elif step is UpdateStep.REBOOTING:
        message.userStatus = info.UPDATING
        message.subStatus = info.UPDATE_REBOOTING
        message.status = info.INSTALLED
    elif step is UpdateStep.WRITING:
        message.userStatus = info.UPDATING
        message.subStatus = info.UPDATE_INITIALIZING
    elif status.content in _FETCHED:
        message.userStatus = info.DOWNLOAD_DONE
        message.downloadProgress = 100
    else:
        message.userStatus = info.DOWNLOADING
        verifying = status.content in _VERIFYING
        message.subStatus = info.VERIFY_INPROGRESS if verifying else info.DOWNLOAD_INPROGRESS
        message.downloadProgress = status.progress


def _words(step: UpdateStep, status: BaseOsStatus) -> str:
    if step is UpdateStep.FAILED:
        return "failed"
    if step is UpdateStep.FETCHING:
        return "fetched" if status.content in _FETCHED else f"fetching, {status.progress}%"
    return f"{step.value}, {status.progress}%" if step is UpdateStep.WRITING else step.value


def _trouble(slot: Slot, status: BaseOsStatus | None) -> Trouble | None:
    if slot.current:
        return None
    if slot.trouble is not None:
        return slot.trouble
    return status.trouble if status is not None and _is_for(slot, status) else None
