"""What a node tells of an app's snapshots, and of an app that is not what its App says. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edgevirt.fleet.objects.app.instance import AppInstance, AppInstanceStatus
from edgevirt.fleet.objects.app.snapshots import MOST, SnapshotOnNode
from edgevirt.fleet.objects.base.object import timestamp
from edgevirt.wire.messages import info

_LONGEST: Final = 500


def told(snapshots: Iterable[info.ZInfoSnapshot]) -> tuple[SnapshotOnNode, ...]:
    """As the node lists them, with a bound."""
    return tuple(
        SnapshotOnNode(
            id=one.id[:64],
            version=one.config_version[:64],
            taken_at=timestamp(one.create_time.seconds) if one.create_time.seconds else None,
            message=one.snap_err.description[:_LONGEST],
        )
        for one in list(snapshots)[: MOST + 2]
    )


def words(instance: AppInstance, status: AppInstanceStatus, app_version: str) -> str:
    """Empty: it is what the App says. `app_version`: of the App now."""
    back = instance.spec.rollback
    if back is None or not back.snapshot or not status.version:
        return ""
    one = next((s for s in status.snapshots if s.id == back.snapshot), None)
    if one is not None and one.message and status.version == app_version:
        return f"rolling back to snapshot {back.snapshot}: {one.message}"
    if status.version != app_version:
        return f"rolled back to version {status.version}; the App says {app_version}"
    return ""
