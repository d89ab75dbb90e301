"""From what a node tells of a Volume, and what its config says, to the Volume's status. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.objects.base.object import Condition, set_condition, timestamp
from edgevirt.fleet.objects.content.volume import Volume, VolumeStatus
from edgevirt.fleet.render import Objects
from edgevirt.fleet.render import volumes as rendering
from edgevirt.fleet.status.of_app import MAKING, SEVERITIES, state_name
from edgevirt.wire.messages import info

_READY: Final = "CREATED_VOLUME"
_MOST_USERS: Final = 100
_LONGEST: Final = 1_000
_WORDS: Final = {
    **MAKING,
    "CREATING_VOLUME": "being made",
    _READY: "there",
    "FAILED": "failed",
}


def fill(status: VolumeStatus, told: info.ZInfoVolume, now: float) -> VolumeStatus:
    """`status` after the node told of it; of another generation it says nothing."""
    if told.generation_count != status.volume_generation:
        return status
    state = state_name(told.state)
    trouble = told.volumeErr.description[:_LONGEST]
    filled = replace(
        status,
        state=state,
        since=status.since if status.since and state == status.state else timestamp(now),
        what=trouble or _WORDS.get(state, state.lower().replace("_", " ")),
        severity=SEVERITIES.get(told.volumeErr.severity, "Error") if trouble else "",
        progress=told.progressPercentage,
        capacity=told.resources.maxSizeBytes,
        used=told.resources.curSizeBytes,
    )
    return _judged(filled, now)


def place(
    status: VolumeStatus, volume: Volume, objects: Objects, waiting: str, now: float
) -> VolumeStatus:
    """`status` once the node's config was made. `waiting`: why the volume isn't in it, or cannot be
    made; empty: all is well.
    """
    generation = rendering.generation(volume, objects.images)
    if status.volume_generation != generation or not status.volume_id:
        status = VolumeStatus(conditions=status.conditions)
    scheduled = Condition(
        type="Scheduled",
        status="False" if waiting else "True",
        reason="Waiting" if waiting else "InConfig",
        message=waiting,
        observed_generation=volume.metadata.generation,
    )
    placed = replace(
        status,
        conditions=set_condition(status.conditions, scheduled, now),
        volume_id=rendering.volume_id(volume),
        volume_generation=generation,
        used_by=tuple(_users(volume, objects))[:_MOST_USERS],
        what=waiting or status.what or _WORDS[""],
    )
    return placed if status.state else _judged(placed, now)


def unreachable(status: VolumeStatus, why: str, now: float) -> VolumeStatus:
    """`status` while the node is silent."""
    ready = Condition(type="Ready", status="Unknown", reason="NodeSilent", message=why)
    return replace(status, conditions=set_condition(status.conditions, ready, now))


def reachable(status: VolumeStatus, now: float) -> VolumeStatus:
    """`status` when the node is heard of again."""
    return _judged(status, now)


def _users(volume: Volume, objects: Objects) -> Iterable[str]:
    def uses(instance: AppInstance) -> bool:
        app = objects.apps.get(instance.spec.app)
        return app is not None and volume.metadata.name in app.named_volumes

    return sorted(one.metadata.name for one in objects.instances if uses(one))


def _judged(status: VolumeStatus, now: float) -> VolumeStatus:
    """Of one that is there, what is no error does not keep apps from using it."""
    failed = bool(status.severity) and (status.state != _READY or status.severity == "Error")
    there = status.state == _READY and not failed
    reason = "Failed" if failed else "".join(p.capitalize() for p in status.state.split("_"))
    ready = Condition(
        type="Ready",
        status="True" if there else "False",
        reason=reason or "NotOnNode",
        message="" if there else status.what,
    )
    return replace(status, conditions=set_condition(status.conditions, ready, now))
