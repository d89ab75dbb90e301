"""Snapshots of apps: what an app was before an update, to go back to."""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun, SwState, Trouble
from edgevirt.model.ids import AppId, Digest, SnapshotId


class SnapshotType(enum.IntEnum):
    """`SnapshotType` of the wire: what a snapshot is taken for."""

    UNSPECIFIED = 0
    APP_UPDATE = 1
    IMMEDIATE = 2


class SnapshotName(Noun, frozen=True, kw_only=True):
    """A snapshot that the controller knows, or the name that the next one is to have."""

    id: str
    """As the controller spells it; the node takes only UUIDs for names of its own."""
    type: int = SnapshotType.UNSPECIFIED
    """A SnapshotType, or one that is not known here."""


class SnapshotWish(Noun, frozen=True, kw_only=True):
    """What the controller wants of an app's snapshots."""

    most: int = 0
    """To keep, the newest; 0: none is taken."""
    names: tuple[SnapshotName, ...] = ()
    """One that was in here and is no longer goes."""
    active: str = ""
    """The snapshot to go back to when `rollback_counter` grows; empty: back to the config."""
    rollback_counter: int = 0


class Snapshot(Noun, frozen=True, kw_only=True):
    """Volumes of an app to be kept as they are. Key: `id`. apps → volumes, domains."""

    id: SnapshotId
    app: AppId
    begun: float
    """Wall clock; another one under the same id is another snapshot."""
    copies: tuple[str, ...] = ()
    """Keys of volumes that the app goes on to use."""
    moves: tuple[str, ...] = ()
    """Keys of volumes that nobody needs afterwards: they become part of the snapshot."""
    take: bool = False
    """The app is stopped: now. Before, its room is looked for and kept."""
    machine: bool = False
    """It is a machine: what that has besides its disks is kept too."""
    take_state: bool = False
    """The app is stopped: that now, and its volumes afterwards."""
    taken: bool = False
    """It is there, and the app may run. If it is not, it is lost: never taken once more."""
    restore: int = 0
    """Grows when the volumes are to become again what they were."""
    commit: bool = False
    """The app is stopped: the volumes may be replaced. Before, only copies are made ready."""


class SnapshotStatus(Noun, frozen=True, kw_only=True):
    """Key: as Snapshot. volumes → apps. INITIAL, then CREATING_VOLUME once there is room for it,
    CREATED_VOLUME when it is whole; FAILED when it cannot be taken: then every volume is where it
    was.
    """

    id: SnapshotId
    app: AppId
    state: SwState
    begun: float = 0.0
    size: int = 0
    """Bytes on the disk."""
    blobs: tuple[Digest, ...] = ()
    """Content that its volumes lie on."""
    prepared: int = 0
    """The `restore` for which copies are ready."""
    restored: int = 0
    """The last `restore` that is done."""
    trouble: Trouble | None = None


class MachineState(Noun, frozen=True, kw_only=True):
    """UEFI variables and TPM's state, kept with a snapshot. Key: as Snapshot. domains → apps."""

    id: SnapshotId
    app: AppId
    begun: float
    kept: bool = False
    restored: int = 0
    """The last `restore` that is done."""
    trouble: Trouble | None = None
    """If nothing is kept: why it cannot be."""


class SnapshotReport(Noun, frozen=True, kw_only=True):
    """A snapshot as the controller is told of it."""

    id: SnapshotId
    version: str
    """Of the app's config at that time."""
    taken_at: float
    """Wall clock; 0.0: not yet."""
    type: int = SnapshotType.APP_UPDATE
    size: int = 0
    trouble: Trouble | None = None
