"""All apps of the node at once: the planner of the apps service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace
from msgspec.structs import replace as changed

from edgevirt.model.app import AppInstance, AppInstanceApplied, VolumeUse
from edgevirt.model.domain import BootOrder, VirtualizationMode
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import (
    ADAPTER_GROUP,
    ADAPTER_USE,
    APP_INSTANCE,
    APP_INSTANCE_APPLIED,
    APP_INSTANCE_STATUS,
    APP_NETWORK,
    APP_NETWORK_STATUS,
    BASE_OS_STATUS,
    DOMAIN,
    DOMAIN_STATUS,
    HOST_CAPACITY,
    MACHINE_DEVICES,
    MACHINE_STATE,
    NETWORK_INSTANCE_STATUS,
    PHYSICAL_IO,
    PROPERTY,
    SNAPSHOT,
    SNAPSHOT_STATUS,
    VOLUME,
    VOLUME_STATUS,
    VOLUME_USE,
)
from edgevirt.model.network import AppNetwork
from edgevirt.model.volume import volume_key
from edgevirt.node.apps import snapshots
from edgevirt.node.apps.adapters import Adapters, Holder
from edgevirt.node.apps.facts import Facts, Step, World, adapters_held, holds, is_down, is_live
from edgevirt.node.apps.growth import grow_disks, held_volumes, yielded
from edgevirt.node.apps.life import advance
from edgevirt.node.apps.rollback import settle
from edgevirt.node.apps.room import Room
from edgevirt.node.apps.status import make_leaving_status, make_status
from edgevirt.node.properties import flag, number, text
from edgevirt.runtime import Again, Inputs, Kind, Output

_MIB = 1 << 20
_BOOT_ORDERS = {"usb": BootOrder.USB, "nousb": BootOrder.NO_USB}
_GRACE = 3600.0
"""Seconds in which a controller that lost its memory may learn anew of what it named before."""
_RESERVE_MAX = 800 * _MIB
"""Of the node itself, where no property says otherwise; on a small machine a third of it."""


class AppsPlanner:
    """`boot` names this run of the node; `started` is the monotonic time of the service's start."""

    name = "apps"
    reads: tuple[Kind[Any], ...] = (
        APP_INSTANCE,
        VOLUME_STATUS,
        NETWORK_INSTANCE_STATUS,
        APP_NETWORK_STATUS,
        DOMAIN_STATUS,
        HOST_CAPACITY,
        BASE_OS_STATUS,
        PROPERTY,
        VOLUME,
        SNAPSHOT_STATUS,
        MACHINE_STATE,
        PHYSICAL_IO,
        MACHINE_DEVICES,
        ADAPTER_GROUP,
    )
    owns: tuple[Kind[Any], ...] = (
        APP_INSTANCE_APPLIED,
        VOLUME_USE,
        SNAPSHOT,
        APP_NETWORK,
        DOMAIN,
        APP_INSTANCE_STATUS,
        ADAPTER_USE,
    )

    def __init__(self, boot: str, started: float) -> None:
        self._boot = boot
        self._started = started

    def plan(self, inputs: Inputs) -> Iterable[Output | Again]:
        wanted = inputs.all(APP_INSTANCE)
        applied = inputs.all(APP_INSTANCE_APPLIED)
        world = self._world(inputs)
        room = self._room(inputs, applied.values())
        self._hold_adapters(world, inputs)
        users: dict[str, list[AppId]] = {}
        for key in sorted({*applied, *inputs.all(APP_INSTANCE_STATUS)} - set(wanted)):
            yield from self._leave(key, inputs, users)
        leaving = frozenset(users)
        world = replace(world, held=world.held | leaving)
        present = {key: known for key, known in applied.items() if key not in wanted}
        for facts in self._facts(inputs, leaving):
            key = facts.wanted.id
            facts, step = decide(facts, world, room)
            room.hold(key, holds(step.applied, facts.domain, self._boot))
            _hold(world.adapters.holders, key, adapters_held(step.applied, facts.domain, world))
            present[key] = step.applied
            use_volumes(users, step.applied.app)
            if step.applied.rolling:
                use_volumes(users, snapshots.find(step.applied, step.applied.rolling).app)
            yield from self._outputs(facts, step, world)
        packed = packed_volumes(_apps(wanted.values(), present.values()))
        domains = inputs.all(DOMAIN_STATUS)
        live = held_volumes((present[key] for key in wanted), domains, self._boot)
        growing = yielded(world.volumes, live | leaving)
        for volume in sorted({*users, *packed, *growing}):
            use = VolumeUse(
                apps=tuple(users.get(volume, ())),
                packed=volume in packed,
                yields=growing.get(volume),
            )
            yield Output(VOLUME_USE, volume, use)
        for group, held in world.adapters.uses().items():
            yield Output(ADAPTER_USE, group, held)

    def _world(self, inputs: Inputs) -> World:
        wanted, applied = inputs.all(APP_INSTANCE), inputs.all(APP_INSTANCE_APPLIED)
        return World(
            boot=self._boot,
            since_start=inputs.monotonic - self._started,
            now=inputs.now,
            capacity=inputs.get(HOST_CAPACITY, "node"),
            volumes=inputs.all(VOLUME_STATUS),
            instances=inputs.all(NETWORK_INSTANCE_STATUS),
            update=inputs.get(BASE_OS_STATUS, "node"),
            adapters=_adapters(inputs),
            held=held_volumes(
                (known for key, known in applied.items() if key in wanted),
                inputs.all(DOMAIN_STATUS),
                self._boot,
            ),
            boot_order=_BOOT_ORDERS.get(text(inputs, "app.boot.order"), BootOrder.UNSPECIFIED),
            grace=max(_GRACE, 3.0 * number(inputs, "timer.config.interval")),
        )

    def _hold_adapters(self, world: World, inputs: Inputs) -> None:
        """As they are held before anything is decided."""
        wanted, holders = inputs.all(APP_INSTANCE), world.adapters.holders
        for key, known in inputs.all(APP_INSTANCE_APPLIED).items():
            domain = inputs.get(DOMAIN_STATUS, key)
            if key in wanted:
                _hold(holders, key, adapters_held(known, domain, world))
            elif domain is not None and known.app.adapters:
                name, names = known.app.name, world.adapters.names(known.app)
                holders[key] = Holder(name, names, leaving=True)

    def _facts(self, inputs: Inputs, leaving: frozenset[str]) -> Iterator[Facts]:
        """Of each wanted app, in the order of their numbers."""
        wanted, applied = inputs.all(APP_INSTANCE), inputs.all(APP_INSTANCE_APPLIED)
        statuses = inputs.all(APP_INSTANCE_STATUS)
        numbers = assign_numbers(wanted, {key: known.app_num for key, known in statuses.items()})
        named = frozenset(inputs.all(VOLUME))
        going_back = _going_back(applied)
        for key in sorted(wanted, key=lambda key: numbers[key]):
            yield Facts(
                wanted=wanted[key],
                number=numbers[key],
                applied=applied.get(key),
                before=statuses.get(key),
                domain=inputs.get(DOMAIN_STATUS, key),
                network=inputs.get(APP_NETWORK_STATUS, key),
                snapshots=snapshots.of_app(AppId(key), inputs.all(SNAPSHOT_STATUS)),
                states=inputs.all(MACHINE_STATE),
                elsewhere=users_besides(key, wanted, applied),
                leaving=leaving.union(*(v for other, v in going_back.items() if other != key)),
                named=named,
            )

    def _outputs(self, facts: Facts, step: Step, world: World) -> Iterator[Output | Again]:
        applied, key = step.applied, facts.wanted.id
        yield Output(APP_INSTANCE_APPLIED, key, applied)
        live = is_live(applied, self._boot)
        down = not live or is_down(applied, facts.domain)
        counter = facts.wanted.snapshot.rollback_counter
        commit = down and not step.withheld
        for wanted in snapshots.specs(applied, counter, facts.states, down=down, commit=commit):
            yield Output(SNAPSHOT, wanted.id, wanted)
        if applied.app.interfaces and (live or step.connect):
            up = step.connect or not down
            yield Output(APP_NETWORK, key, make_network(applied.app, facts.number, activate=up))
        if live:
            yield Output(DOMAIN, key, applied.domain)
        yield Output(APP_INSTANCE_STATUS, key, make_status(facts, step, world))
        if step.wait is not None and step.wait.again is not None:
            yield Again(step.wait.again)
        left = snapshots.seconds_left(applied, world.now, world.grace)
        if left is not None:
            yield Again(max(0.1, left))

    def _leave(
        self, key: str, inputs: Inputs, users: dict[str, list[AppId]]
    ) -> Iterator[Output | Again]:
        """First the domain goes, then what it stands on, then the word of it."""
        domain = inputs.get(DOMAIN_STATUS, key)
        applied = inputs.get(APP_INSTANCE_APPLIED, key)
        before = inputs.get(APP_INSTANCE_STATUS, key)
        if domain is None and inputs.get(APP_NETWORK_STATUS, key) is None:
            return
        number = 0 if before is None else before.app_num
        if applied is not None:
            if applied.domain is not None:
                generation = applied.generation + 1  # if it comes back, it is another one
                applied = replace(applied, domain=None, generation=generation)
            yield Output(APP_INSTANCE_APPLIED, key, applied)
            for kept in snapshots.specs(
                replace(applied, rolling=""), 0, {}, down=False, commit=False
            ):
                yield Output(SNAPSHOT, kept.id, kept)
            if domain is not None:
                use_volumes(users, applied.app)
                if applied.app.interfaces:
                    yield Output(APP_NETWORK, key, make_network(applied.app, number, activate=True))
        if before is not None:
            yield Output(APP_INSTANCE_STATUS, key, make_leaving_status(before, inputs.now))

    def _room(self, inputs: Inputs, applied: Iterable[AppInstanceApplied]) -> Room:
        capacity = inputs.get(HOST_CAPACITY, "node")
        room = Room(memory_for_apps(inputs), () if capacity is None else capacity.cores)
        for known in applied:
            domain = inputs.get(DOMAIN_STATUS, known.app.id)
            room.hold(known.app.id, holds(known, domain, self._boot))
        return room


def decide(facts: Facts, world: World, room: Room) -> tuple[Facts, Step]:
    """The facts as they were settled, and the step that follows from them."""
    settled = settle(facts)
    step = advance(settled, world, room)
    if snapshots.is_taking(settled.applied) and not snapshots.is_taking(step.applied):
        settled = settle(changed(facts, applied=step.applied))  # what waited for it, may go on
        step = advance(settled, world, room)
    tidied = snapshots.tidy(step.applied, settled.wanted.snapshot, world.now, world.grace)
    return settled, changed(step, applied=grow_disks(tidied, world.volumes))


def users_besides(
    key: str, wanted: Mapping[str, AppInstance], applied: Mapping[str, AppInstanceApplied]
) -> frozenset[str]:
    """Keys of the volumes that other apps than `key` use, or are to use."""
    apps = [one for other, one in wanted.items() if other != key]
    apps += [known.app for other, known in applied.items() if other != key]
    return frozenset(volume_key(r.volume, r.generation) for app in apps for r in app.volumes)


def _going_back(applied: Mapping[str, AppInstanceApplied]) -> dict[str, frozenset[str]]:
    """By app, if it is being rolled back: keys of its volumes."""
    return {
        key: frozenset(
            volume_key(ref.volume, ref.generation)
            for ref in snapshots.find(known, known.rolling).app.volumes
        )
        for key, known in applied.items()
        if known.rolling
    }


def _adapters(inputs: Inputs) -> Adapters:
    measured = inputs.get(MACHINE_DEVICES, "node") is not None
    groups = inputs.all(ADAPTER_GROUP) if measured else None
    return Adapters(groups, tuple(inputs.all(PHYSICAL_IO).values()))


def _hold(holders: dict[str, Holder], key: str, holder: Holder | None) -> None:
    holders.pop(key, None)
    if holder is not None:
        holders[key] = holder


def memory_for_apps(inputs: Inputs) -> int:
    """Bytes."""
    capacity = inputs.get(HOST_CAPACITY, "node")
    if capacity is None:
        return 0
    if flag(inputs, "memory.apps.ignore.check"):
        return 1 << 62
    total = capacity.memory_kib * 1024
    reserve = number(inputs, "memory.eve.limit.MiB") * _MIB
    return total - (reserve or min(_RESERVE_MAX, total // 3))


def assign_numbers(wanted: Iterable[str], known: dict[str, int]) -> dict[str, int]:
    """App numbers: those given stay, also of apps that are leaving; a new one is the smallest free.

    From 1, as EVE counts.
    """
    numbers = {key: number for key, number in known.items() if number > 0}
    taken = set(numbers.values())
    for key in sorted(set(wanted) - set(numbers)):
        number = next(free for free in range(1, len(taken) + 2) if free not in taken)
        numbers[key] = number
        taken.add(number)
    return numbers


def make_network(app: AppInstance, number: int, *, activate: bool) -> AppNetwork:
    return AppNetwork(
        app=app.id,
        name=app.name,
        app_num=number,
        interfaces=app.interfaces,
        activate=activate,
        taps=app.resources.mode is not VirtualizationMode.NOHYPER,
    )


def _apps(
    wanted: Iterable[AppInstance], applied: Iterable[AppInstanceApplied]
) -> Iterator[AppInstance]:
    """All configs that run, are to run, or are being gone back to."""
    yield from wanted
    for known in applied:
        yield known.app
        if known.rolling:
            yield snapshots.find(known, known.rolling).app


def packed_volumes(apps: Iterable[AppInstance]) -> set[str]:
    """Volumes of apps in virtual machines: if they lie on layers, these are needed as disks."""
    return {
        volume_key(ref.volume, ref.generation)
        for app in apps
        if app.resources.mode is not VirtualizationMode.NOHYPER
        for ref in app.volumes
    }


def use_volumes(users: dict[str, list[AppId]], app: AppInstance) -> None:
    for ref in app.volumes:
        apps = users.setdefault(volume_key(ref.volume, ref.generation), [])
        if app.id not in apps:
            apps.append(app.id)
