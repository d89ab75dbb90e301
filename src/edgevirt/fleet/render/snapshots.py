"""Rendering what a node is to keep of an app, and to go back to. Pure.

A stock EVE node takes a snapshot under a name that its controller gives beforehand, and deletes one
that is not named any more. So the config names all that the node has told of, and one for the next
update: it follows from the counters that order the update.
"""

from __future__ import annotations

from edgevirt.fleet.objects.app.app import App
from edgevirt.fleet.objects.app.instance import AppInstance
from edgevirt.fleet.render.nouns import derive
from edgevirt.model.snapshot import SnapshotName, SnapshotType, SnapshotWish


def snapshot_wish(instance: AppInstance, app: App, restarts: int, purges: int) -> SnapshotWish:
    most = app.spec.snapshots.max
    back = instance.spec.rollback
    names: tuple[SnapshotName, ...] = ()
    if most:
        known = [one.id for one in instance.status.snapshots if one.version]
        following = derive(instance.metadata.uid, f"snapshot/{restarts}/{purges}")
        ids = dict.fromkeys((*known, following))
        names = tuple(SnapshotName(id=id, type=SnapshotType.APP_UPDATE) for id in ids)
    return SnapshotWish(
        most=most,
        names=names,
        active=back.snapshot if back is not None else "",
        rollback_counter=back.counter if back is not None else 0,
    )
