"""What is known of an app, and of what all apps share. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgevirt.model.app import AppInstance, AppInstanceApplied, AppInstanceStatus
from edgevirt.model.base import SwState
from edgevirt.model.baseos import BaseOsStatus
from edgevirt.model.domain import BootOrder, Domain, DomainStatus, HostCapacity
from edgevirt.model.network import AppNetworkStatus, NetworkInstanceStatus
from edgevirt.model.snapshot import MachineState, SnapshotStatus
from edgevirt.model.volume import VolumeStatus
from edgevirt.node.apps.adapters import Adapters, Holder
from edgevirt.node.apps.changes import Changes
from edgevirt.node.apps.gates import Wait


class World(msgspec.Struct, frozen=True):
    """What all apps share."""

    boot: str
    """This run of the node: no domain is older."""
    since_start: float
    """Seconds since this service began."""
    now: float
    capacity: HostCapacity | None
    volumes: Mapping[str, VolumeStatus]
    instances: Mapping[str, NetworkInstanceStatus]
    update: BaseOsStatus | None
    """Of the node's own operating system."""
    adapters: Adapters = msgspec.field(default_factory=Adapters)
    held: frozenset[str] = frozenset()
    """Keys of volumes that domains have."""
    boot_order: BootOrder = BootOrder.UNSPECIFIED
    """Of machines that say nothing of it."""
    grace: float = 3600.0
    """Seconds that a snapshot stays which the controller names no more."""


class Facts(msgspec.Struct, frozen=True):
    """What is known of one app that is wanted."""

    wanted: AppInstance
    number: int
    applied: AppInstanceApplied | None = None
    before: AppInstanceStatus | None = None
    domain: DomainStatus | None = None
    network: AppNetworkStatus | None = None
    config: AppInstance | None = None
    """What the controller wants, where `wanted` is a config of before that is in force instead."""
    snapshots: Mapping[str, SnapshotStatus] = msgspec.field(default_factory=dict)
    """Of this app."""
    states: Mapping[str, MachineState] = msgspec.field(default_factory=dict)
    """Kept with those."""
    elsewhere: frozenset[str] = frozenset()
    """Keys of volumes that other apps use too."""
    leaving: frozenset[str] = frozenset()
    """Keys of volumes that apps use which are being removed, or others that are rolled back."""
    named: frozenset[str] = frozenset()
    """Keys of all volumes that the config names."""


class Step(msgspec.Struct, frozen=True):
    applied: AppInstanceApplied
    changes: Changes
    """Of the config, against what is applied."""
    wait: Wait | None = None
    connect: bool = False
    """Its network is wanted, though its domain isn't yet."""
    moving: str = ""
    """`restarting`, `purging` or `rolling back`, while that waits for something."""
    withheld: bool = False
    """It is stopped to be rolled back, and another app has a volume of it: nothing is replaced."""


def is_live(applied: AppInstanceApplied, boot: str) -> bool:
    """A domain was told in this run of the node, so there may be one."""
    return applied.domain is not None and applied.boot == boot


def is_down(applied: AppInstanceApplied, status: DomainStatus | None) -> bool:
    """The domain was told to end, and this very one did. (One that ended by itself is in trouble.)

    Each start is of another generation, so word of an earlier end is not taken for it.
    """
    domain = applied.domain
    return (
        domain is not None
        and not domain.activate
        and status is not None
        and status.generation == domain.generation
        and status.state == SwState.HALTED
        and status.trouble is None
    )


def holds(
    applied: AppInstanceApplied | None, domain: DomainStatus | None, boot: str
) -> Domain | None:
    """The domain whose memory and processors are taken."""
    if applied is None or not is_live(applied, boot) or is_down(applied, domain):
        return None
    return applied.domain


def adapters_held(
    applied: AppInstanceApplied | None, domain: DomainStatus | None, world: World
) -> Holder | None:
    """As with memory: until the domain has ended."""
    if applied is None or applied.domain is None or not is_live(applied, world.boot):
        return None
    if is_down(applied, domain) or not applied.app.adapters:
        return None
    groups = world.adapters.names(applied.app)
    functions = (device.function for device in applied.domain.devices)
    return Holder(
        applied.app.name,
        groups,
        leaving=not applied.domain.activate,
        functions=tuple(filter(None, functions)),
    )
