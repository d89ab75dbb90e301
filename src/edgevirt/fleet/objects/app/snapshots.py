"""Snapshots of apps: what an App asks for, an AppInstance goes back to, and a node tells."""

from __future__ import annotations

from collections.abc import Iterator

from edgevirt.fleet.objects.base.amounts import check_counter
from edgevirt.fleet.objects.base.object import ApiStruct, Time
from edgevirt.fleet.objects.base.problems import Problem, invalid

MOST = 16
"""Snapshots that a node keeps of one app."""


class AppSnapshots(ApiStruct, frozen=True, kw_only=True):
    """What is kept of the app before each update, to go back to."""

    max: int = 0
    """How many, the newest; 0: none. Each takes as much of the node's disk as the app's volumes
    hold, and the app is stopped while they are copied."""


class Rollback(ApiStruct, frozen=True, kw_only=True):
    """Back to how the app was before an update; `edgevirt rollback` sets it."""

    snapshot: str = ""
    """The snapshot to go back to; empty: forward again, to what the App says."""
    counter: int = 0
    """Raise it with each change of `snapshot`: that makes the node act, once."""


class SnapshotOnNode(ApiStruct, frozen=True, kw_only=True):
    """A snapshot of the app."""

    id: str = ""
    """Its name."""
    version: str = ""
    """Of the App at that time (its generation)."""
    taken_at: Time | None = None
    """When it was taken."""
    message: str = ""
    """What is being done to it, or wrong with it."""


def validate_snapshots(snapshots: AppSnapshots) -> Iterator[Problem]:
    if not 0 <= snapshots.max <= MOST:
        yield invalid("spec.snapshots.max", snapshots.max, f"must be between 0 and {MOST}")


def validate_rollback(rollback: Rollback | None) -> Iterator[Problem]:
    if rollback is None:
        return
    yield from check_counter("spec.rollback.counter", rollback.counter)
    if len(rollback.snapshot) > 64:
        yield invalid("spec.rollback.snapshot", rollback.snapshot[:64], "is no snapshot's id")
