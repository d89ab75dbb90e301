"""What a config says of an app's snapshots: both ways."""

from __future__ import annotations

from typing import Final, cast

from edgevirt.model.snapshot import SnapshotName, SnapshotWish
from edgevirt.wire.convert.rest import forget, leave, restore
from edgevirt.wire.messages import config

_FIELDS: Final = ("id", "type")


def wish(message: config.SnapshotConfig) -> SnapshotWish:
    return SnapshotWish(
        most=message.max_snapshots,
        names=tuple(SnapshotName(id=one.id, type=int(one.type)) for one in message.snapshots),
        active=message.active_snapshot,
        rollback_counter=message.rollback_cmd.counter,
    )


def forget_wish(message: config.AppInstanceConfig, rest: config.AppInstanceConfig) -> None:
    """Takes out of `rest`, a copy of `message`, what `wish` holds."""
    if not rest.HasField("snapshot") or not rest.snapshot.ByteSize():
        return
    part = rest.snapshot
    for name in ("active_snapshot", "max_snapshots", "snapshots"):
        part.ClearField(name)
    forget(part, ("rollback_cmd",), ("counter",))
    leave(message.snapshot.snapshots, _FIELDS, part.snapshots)
    if not part.ByteSize():
        rest.ClearField("snapshot")


def fill_wish(message: config.AppInstanceConfig, noun: SnapshotWish) -> None:
    """`message` holds the rest."""
    if noun == SnapshotWish():
        return
    told = message.snapshot
    told.active_snapshot = noun.active
    told.max_snapshots = noun.most
    if noun.rollback_counter:
        told.rollback_cmd.counter = noun.rollback_counter
    names = (
        config.SnapshotDesc(id=one.id, type=cast("config.SnapshotType", one.type))
        for one in noun.names
    )
    restore(told.snapshots, _FIELDS, names)
