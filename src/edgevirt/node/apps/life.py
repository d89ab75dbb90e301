"""The next step in one app's life. Pure.

An app is in one of three situations: nothing of it runs since the node started, its domain is
wanted to run, or its domain was told to end and did. From each there is one function. A restart
that changes nothing else replaces the domain in place; one that changes the network, and every
purge, goes through the third situation, so that the old is gone before the new comes. So does an
update that a snapshot is taken for, and a rollback.
"""

from __future__ import annotations

from msgspec.structs import replace
from msgspec.structs import replace as changed

from edgevirt.model.app import AppInstance, AppInstanceApplied
from edgevirt.node.apps import gates, rollback, snapshots
from edgevirt.node.apps.adapters import check_adapters
from edgevirt.node.apps.changes import (
    NOTHING,
    Changes,
    compare,
    merge_live,
    restarted,
    same_network,
)
from edgevirt.node.apps.domain_spec import make_domain
from edgevirt.node.apps.facts import Facts, Step, World, is_down, is_live
from edgevirt.node.apps.gates import Wait
from edgevirt.node.apps.growth import await_growth
from edgevirt.node.apps.interface_order import check_order
from edgevirt.node.apps.room import Room
from edgevirt.node.apps.wants import check_wants


def advance(facts: Facts, world: World, room: Room) -> Step:
    """`facts` are settled (see `rollback`)."""
    applied = facts.applied or AppInstanceApplied(app=facts.wanted)
    if applied.rolling:
        return _roll_back(applied, facts, world, room)
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
    waits = missing is not None and not snapshots.is_taking(applied)
    if waits and applied.domain is not None and compare(old, wanted).purge:
        applied = replace(applied, app=merge_live(old, wanted))
        if gates.await_volumes(old.volumes, world.volumes) is not None:
            return Step(applied, compare(applied.app, wanted), missing)
    else:
        done = snapshots.secure(applied, wanted, facts, world.now, down=True)
        if done.wait is not None and not done.refused:
            return Step(done.applied, compare(old, wanted), done.wait)
        applied = replace(done.applied, app=merge_live(old, wanted) if done.refused else wanted)
        missing = done.wait or missing
    if not wanted.activate:
        return Step(applied, compare(applied.app, wanted), missing)
    step = _bring_up(applied, facts, world, room, first=True)
    return step if applied.app == wanted else _with_wait(step, missing)


def _from_down(applied: AppInstanceApplied, facts: Facts, world: World, room: Room) -> Step:
    wanted = facts.wanted
    old = applied.app
    target = wanted if compare(old, wanted).purge else restarted(old, wanted)
    done = snapshots.secure(applied, target, facts, world.now, down=True)
    if done.wait is not None and not done.refused:
        return Step(done.applied, compare(old, wanted), done.wait, connect=True)  # for soon
    applied = replace(done.applied, app=merge_live(old, wanted) if done.refused else target)
    if not wanted.activate:
        return Step(applied, compare(applied.app, wanted), done.wait)
    step = _bring_up(applied, facts, world, room, first=False)
    return _with_wait(step, done.wait)


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
        return changed(staying, applied=snapshots.withdraw(applied))
    target = wanted if changes.purge else restarted(applied.app, wanted)
    moving = _moving(changes)
    wait = _ready(target, facts, world, room)
    if wait is not None:
        return changed(staying, wait=wait, moving=moving)
    done = snapshots.secure(applied, target, facts, world.now, down=False)
    applied = done.applied
    if done.wait is not None:
        return Step(applied, changes, done.wait, moving=moving)
    is_taking = snapshots.is_taking(applied)
    if changes.purge or is_taking or not same_network(applied.app, target):
        return changed(staying, applied=_told_to_end(applied))
    wait = gates.await_network(target, facts.network)
    if wait is not None:
        return changed(staying, wait=wait, moving=moving)
    applied = _told_to_run(replace(applied, app=target), facts, world, room)
    return Step(applied, compare(applied.app, wanted))


def _moving(changes: Changes) -> str:
    return "purging" if changes.purge else "restarting"


def _with_wait(step: Step, wait: Wait | None) -> Step:
    """What of the update waits while the old is brought up."""
    if wait is None or step.wait is not None:
        return step
    return changed(step, wait=wait, moving=_moving(step.changes))


def _roll_back(applied: AppInstanceApplied, facts: Facts, world: World, room: Room) -> Step:
    """The copies of its volumes are made while it runs; it is stopped to put them in place."""
    saved = snapshots.find(applied, applied.rolling)
    target = merge_live(saved.app, facts.wanted)
    wait: Wait | None = rollback.await_volumes(saved, facts)
    live = is_live(applied, world.boot)
    shared = gates.check_sharing(target, world.volumes, room, (), world.now)
    if not live or is_down(applied, facts.domain):
        step = Step(applied, NOTHING, shared or wait, connect=live, moving="rolling back")
        return changed(step, withheld=shared is not None)
    applied = replace(applied, app=merge_live(applied.app, facts.wanted))
    staying = Step(applied, NOTHING, moving="rolling back")
    assert applied.domain is not None
    if not applied.domain.activate:
        return staying
    if rollback.are_copies_ready(saved, facts):
        wait = (
            shared
            or gates.check_mode(target, world.capacity, world.now)
            or gates.check_guest(target, world.volumes, world.capacity, world.now)
            or gates.check_memory(target, room, world.now)
            or gates.check_processors(target, room, world.capacity, world.now)
            or check_adapters(target, world.adapters, world.now)
            or check_order(target, world.adapters, world.now)
        )
    if wait is not None and facts.wanted.activate:
        return changed(staying, wait=wait)
    return changed(staying, applied=_told_to_end(applied))


def _bring_up(
    applied: AppInstanceApplied, facts: Facts, world: World, room: Room, *, first: bool
) -> Step:
    app = applied.app
    step = Step(applied, compare(app, facts.wanted))
    wait = (
        _ready(app, facts, world, room)
        or await_growth(app, world.volumes, world.held)
        or gates.await_update(world.update)
    )
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
    wait = gates.check_mode(app, world.capacity, world.now) or gates.check_guest(
        app, world.volumes, world.capacity, world.now
    )
    if wait is not None and wait.trouble is not None:
        volumes = gates.await_volumes(app.volumes, world.volumes)
        return wait if volumes is None else changed(volumes, trouble=wait.trouble)
    return (
        gates.await_volumes(app.volumes, world.volumes)
        or wait
        or gates.await_packed(app, world.volumes)
        or check_wants(app, world.volumes, world.now)
        or gates.check_sharing(app, world.volumes, room, facts.leaving, world.now)
        or gates.check_memory(app, room, world.now)
        or gates.check_processors(app, room, world.capacity, world.now)
        or check_adapters(app, world.adapters, world.now)
        or check_order(app, world.adapters, world.now)
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
        adapters=world.adapters,
        boot_order=world.boot_order,
    )
    return replace(applied, generation=generation, domain=domain, boot=world.boot)


def _told_to_end(applied: AppInstanceApplied) -> AppInstanceApplied:
    assert applied.domain is not None
    return replace(applied, domain=replace(applied.domain, activate=False))
