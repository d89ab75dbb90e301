"""Where a node's disk went: both ways. As EVE tells directories, by paths."""

from __future__ import annotations

from typing import Final

from edgevirt.model.volume import StorageUse
from edgevirt.wire.messages import metrics

_MEBI: Final = 1 << 20
_CONTENT, _VOLUMES, _SNAPSHOTS = (
    f"/persist/vault/{name}" for name in ("content", "volumes", "snapshots")
)


def fill_storage(dm: metrics.deviceMetric, use: StorageUse) -> None:
    dm.runtimeStorageOverheadMB = use.reserved // _MEBI
    dm.appRunTimeStorageMB = (use.content + use.volumes + use.snapshots) // _MEBI
    for path, size in (
        (_CONTENT, use.content),
        (_VOLUMES, use.volumes),
        (_SNAPSHOTS, use.snapshots),
    ):
        dm.disk.add(mountPath=path, used=size // _MEBI)


def read_storage(dm: metrics.deviceMetric) -> dict[str, int]:
    """Bytes, by `reserved`, `content`, `volumes` and `snapshots`; nodes other than ours tell less,
    or nothing.
    """
    used = {disk.mountPath: disk.used for disk in dm.disk}
    found = {
        name: used[path] * _MEBI
        for name, path in (
            ("content", _CONTENT),
            ("volumes", _VOLUMES),
            ("snapshots", _SNAPSHOTS),
        )
        if path in used
    }
    if dm.runtimeStorageOverheadMB:
        found["reserved"] = dm.runtimeStorageOverheadMB * _MEBI
    return found
