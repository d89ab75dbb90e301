"""The next step in one app's life. Pure.

An app is in one of three situations: nothing of it runs since the node started, its domain is
wanted to run, or its domain was told to end and did. From each there is one function. A restart
that changes nothing else replaces the domain in place; one that changes the network, and every
purge, goes through the third situation, so that the old is gone before the new comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed

from msgspec.structs import replace

from edgevirt.model.app import (
    AppInstance,
    AppInstanceApplied,
    AppInstanceStatus,
    Domain,
    DomainStatus,
    HostCapacity,
)
from edgevirt.model.base import SwState
from edgevirt.model.baseos import BaseOsStatus
from edgevirt.model.network import AppNetworkStatus, NetworkInstanceStatus
from edgevirt.model.volume import VolumeStatus
from edgevirt.node.apps import gates
from edgevirt.node.apps.adapters import Adapters, Holder, check_adapters
from edgevirt.node.apps.changes import Changes, compare, merge_live, restarted, same_network
from edgevirt.node.apps.domain_spec import make_domain
from edgevirt.node.apps.gates import Wait
from edgevirt.node.apps.room import Room


@dataclass(frozen=True)
class World:
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
    adapters: Adapters = field(default_factory=Adapters)


@dataclass(frozen=True)
class Facts:
    """What is known of one app that is wanted."""

    wanted: AppInstance
    number: int
    applied: AppInstanceApplied | None = None
    before: AppInstanceStatus | None = None
    domain: DomainStatus | None = None
    network: AppNetworkStatus | None = None


@dataclass(frozen=True)
class Step:
    applied: AppInstanceApplied
    changes: Changes
    """Of the config, against what is applied."""
    wait: Wait | None = None
    connect: bool = False
    """Its network is wanted, though its domain isn't yet."""
    moving: str = ""
    """`restarting` or `purging`, while that waits for something."""


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
    return Holder(applied.app.name, groups, leaving=not applied.domain.activate)


def advance(facts: Facts, world: World, room: Room) -> Step:
    applied = facts.applied or AppInstanceApplied(app=facts.wanted)
    if not is_live(applied, world.boot):
        return _from_nothing(applied, facts, world, room)
    if is_down(applied, facts.domain):
        return _from_down(applied, facts, world, room)
    return _from_up(applied, facts, world, room)


def _from_nothing(applied: AppInstanceApplied, facts: Facts, world: World, room: Room) -> Step:
    """Nothing runs that a change could disturb: all that is wanted applies.

    Only an app that ran before and is to be purged takes whichever volumes are there first.
    """
    wanted, old = facts.wanted, applied.app
    missing = gates.await_volumes(wanted.volumes, world.volumes)
    if missing is not None and applied.domain is not None and compare(old, wanted).purge:
        applied = replace(applied, app=merge_live(old, wanted))
        if gates.await_volumes(old.volumes, world.volumes) is not None:
            return Step(applied, compare(applied.app, wanted), missing)
    else:
        applied = replace(applied, app=wanted)
    if not wanted.activate:
        return Step(applied, compare(applied.app, wanted), missing)
    return _bring_up(applied, facts, world, room, first=True)


def _from_down(applied: AppInstanceApplied, facts: Facts, world: World, room: Room) -> Step:
    wanted = facts.wanted
    purge = compare(applied.app, wanted).purge
    applied = replace(applied, app=wanted if purge else restarted(applied.app, wanted))
    if not wanted.activate:
        return Step(applied, compare(applied.app, wanted))
    return _bring_up(applied, facts, world, room, first=False)


def _from_up(applied: AppInstanceApplied, facts: Facts, world: World, room: Room) -> Step:
    wanted = facts.wanted
    applied = replace(applied, app=merge_live(applied.app, wanted))
    changes = compare(applied.app, wanted)
    staying = Step(applied, changes)
    assert applied.domain is not None
    if not applied.domain.activate:
        return staying  # on its way down; nothing else until it is there
    if not wanted.activate:
        return changed(staying, applied=_told_to_end(applied))
    if not (changes.purge or changes.restart):
        return staying
    target = wanted if changes.purge else restarted(applied.app, wanted)
    moving = "purging" if changes.purge else "restarting"
    wait = _ready(target, facts, world, room)
    if wait is not None:
        return changed(staying, wait=wait, moving=moving)
    if changes.purge or not same_network(applied.app, target):
        return changed(staying, applied=_told_to_end(applied))
    wait = gates.await_network(target, facts.network)
    if wait is not None:
        return changed(staying, wait=wait, moving=moving)
    applied = _told_to_run(replace(applied, app=target), facts, world, room)
    return Step(applied, compare(applied.app, wanted))


def _bring_up(
    applied: AppInstanceApplied, facts: Facts, world: World, room: Room, *, first: bool
) -> Step:
    app = applied.app
    step = Step(applied, compare(app, facts.wanted))
    wait = _ready(app, facts, world, room) or gates.await_update(world.update)
    if wait is None and first:
        wait = gates.await_delay(app, world.since_start)
    if wait is None:
        wait = gates.await_network_instances(app, world.instances)
    if wait is not None:
        return changed(step, wait=wait)
    wait = gates.await_network(app, facts.network)
    if wait is not None:
        return changed(step, wait=wait, connect=True)
    return changed(step, applied=_told_to_run(applied, facts, world, room))


def _ready(app: AppInstance, facts: Facts, world: World, room: Room) -> Wait | None:
    wait = gates.check_mode(app, world.capacity, world.now)
    if wait is not None and wait.trouble is not None:
        volumes = gates.await_volumes(app.volumes, world.volumes)
        return wait if volumes is None else changed(volumes, trouble=wait.trouble)
    return (
        gates.await_volumes(app.volumes, world.volumes)
        or wait
        or gates.await_packed(app, world.volumes)
        or gates.check_wants(app, world.volumes, world.now)
        or gates.check_memory(app, room.memory_left(app.id), world.now)
        or gates.check_processors(app, room, world.capacity, world.now)
        or check_adapters(app, world.adapters, world.now)
    )


def _told_to_run(
    applied: AppInstanceApplied, facts: Facts, world: World, room: Room
) -> AppInstanceApplied:
    """All gates are passed."""
    generation = applied.generation
    if is_live(applied, world.boot):
        generation += 1
    domain = make_domain(
        applied.app,
        number=facts.number,
        generation=generation,
        volumes=world.volumes,
        network=facts.network,
        cpus=room.processors_for(applied.app),
        devices=world.adapters.devices(applied.app),
    )
    return replace(applied, generation=generation, domain=domain, boot=world.boot)


def _told_to_end(applied: AppInstanceApplied) -> AppInstanceApplied:
    assert applied.domain is not None
    return replace(applied, domain=replace(applied.domain, activate=False))
