"""Devices of the machine: what an app may have, and who has it. Pure.

A group is an app's from the moment that its domain is told to run until that domain has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from msgspec.structs import replace

from edgevirt.model.app import AppInstance
from edgevirt.model.base import Severity, SwState, Trouble
from edgevirt.model.domain import VirtualizationMode
from edgevirt.model.hardware import (
    Adapter,
    AdapterGroup,
    AdapterMember,
    AdapterUse,
    DomainDevice,
    IoType,
    PhysicalIo,
)
from edgevirt.model.ids import AppId
from edgevirt.model.sriov import (
    FunctionSettings,
    VirtualFunction,
    check_settings,
    function_name,
    name_range,
    read_function_name,
)
from edgevirt.node.apps.gates import Wait


class Holder(msgspec.Struct, frozen=True):
    """An app that has groups."""

    name: str
    groups: tuple[str, ...]
    leaving: bool = False
    """Its domain was told to end."""
    functions: tuple[VirtualFunction, ...] = ()
    """Of network cards, as its domain has them."""


class Adapters(msgspec.Struct):
    """`groups`: as the machine has them; None: not known yet. `model`: as the controller has them.
    `holders`: by app; the apps are asked one after the other, and each sees what others took.
    """

    groups: Mapping[str, AdapterGroup] | None = None
    model: tuple[PhysicalIo, ...] = ()
    holders: dict[str, Holder] = msgspec.field(default_factory=dict)

    def find(self, name: str) -> AdapterGroup | None:
        """By its own name, or that of a device in it."""
        groups = self.groups or {}
        if name in groups:
            return groups[name]
        for group in groups.values():
            if any(name in (member.label, member.phylabel) for member in group.members):
                return group
        return None

    def names(self, app: AppInstance) -> tuple[str, ...]:
        """Of the groups that it asks for; one that is gone goes by the name that it had."""
        found = ((self.find(wanted.name), wanted.name) for wanted in app.adapters)
        return tuple(dict.fromkeys(group.name if group else name for group, name in found))

    def devices(self, app: AppInstance) -> tuple[DomainDevice, ...]:
        """All gates are passed."""
        groups = filter(None, map((self.groups or {}).get, self.names(app)))
        settings = self._settings(app)
        return tuple(
            DomainDevice(
                label=member.label,
                type=member.type,
                addresses=member.addresses,
                can=member.can,
                function=_function(member, settings.get(group.name)),
            )
            for group in groups
            for member in group.members
        )

    def _settings(self, app: AppInstance) -> dict[str, FunctionSettings]:
        """Of virtual functions, by group."""
        found = ((self.find(wanted.name), wanted.function) for wanted in app.adapters)
        return {group.name: said for group, said in found if group is not None and said is not None}

    def count(self, card: str) -> int:
        """So many virtual functions it has, or is to have."""
        names = {member.label for group in (self.groups or {}).values() for member in group.members}
        count = 0
        while function_name(card, count) in names:
            count += 1
        return count

    def uses(self) -> Mapping[str, AdapterUse]:
        """By group."""
        return {
            group: AdapterUse(app=AppId(app), functions=holder.functions)
            for app, holder in self.holders.items()
            for group in holder.groups
        }

    def relatives(self, group: AdapterGroup) -> Iterator[str]:
        """Groups that nobody else may have at the same time: itself, what it is plugged into, and
        what is plugged into it."""
        yield group.name
        if group.parent:
            yield group.parent
        for other in (self.groups or {}).values():
            if other.parent and other.parent == group.name:
                yield other.name


def check_adapters(app: AppInstance, adapters: Adapters, now: float) -> Wait | None:
    if not app.adapters:
        return None
    if adapters.groups is None:
        return Wait(SwState.INSTALLED, "waiting to know this machine's devices")
    for wanted in app.adapters:
        wait = _check(app, wanted, adapters, now)
        if wait is not None:
            return wait
    return None


def _check(app: AppInstance, wanted: Adapter, adapters: Adapters, now: float) -> Wait | None:
    name = wanted.name
    group = adapters.find(name)
    if group is None:
        if any(name in (device.group, device.label) for device in adapters.model):
            return Wait(SwState.INSTALLED, f"waiting to know adapter {name}")
        return _refusal(f"cannot start: unknown adapter {name}{_of_card(name, adapters)}", now)
    if group.why_not:
        return _refusal(f"cannot start: adapter {name} is not assignable: {group.why_not}", now)
    machine = app.resources.mode is not VirtualizationMode.NOHYPER
    unfit = group.why_no_machine if machine else group.why_no_container
    if unfit:
        return _refusal(f"cannot start: adapter {name} cannot be assigned to it: {unfit}", now)
    if wanted.function is not None and (flaw := _flaw(wanted.function, group)):
        return _refusal(f"cannot start: adapter {name}: {flaw}", now)
    wait = _await_holder(app, group, adapters, now)
    if wait is not None:
        return wait
    has = _has(app, group, adapters)
    for member in group.members:
        awaited = not (member.pluggable and machine)
        if member.absent and awaited and not has:
            why = f"cannot start: adapter {name}: {member.absent}"
            return Wait(
                SwState.INSTALLED,
                f"waiting for adapter {name}",
                Trouble(why=why, since=now, hint="starts by itself when the device is there"),
            )
    return None


def _function(member: AdapterMember, said: FunctionSettings | None) -> VirtualFunction | None:
    """What the app says of it counts more than what the model does."""
    found = member.function
    if found is None or said is None:
        return found
    return replace(found, mac=said.mac.lower() or found.mac, vlan=said.vlan or found.vlan)


def _flaw(said: FunctionSettings, group: AdapterGroup) -> str:
    if said == FunctionSettings():
        return ""
    functions = [member for member in group.members if member.type == IoType.ETHERNET_VF]
    if len(functions) != 1:
        return "a MAC address or VLAN is of one virtual function, and it is none or several"
    found = functions[0].function
    if said.index and found is not None and said.index != found.index:
        return f"it is virtual function {found.index}, not {said.index}"
    return check_settings(said)


def _of_card(name: str, adapters: Adapters) -> str:
    """What there is instead of a virtual function of such a number."""
    named = read_function_name(name)
    count = adapters.count(named[0]) if named is not None else 0
    return f": {named[0]} has {name_range(named[0], count)}" if named and count else ""


def _has(app: AppInstance, group: AdapterGroup, adapters: Adapters) -> bool:
    """An interface that an app has is not seen by the node."""
    holder = adapters.holders.get(app.id)
    return holder is not None and group.name in holder.groups


def _await_holder(
    app: AppInstance, group: AdapterGroup, adapters: Adapters, now: float
) -> Wait | None:
    related = set(adapters.relatives(group))
    for key, holder in adapters.holders.items():
        taken = related.intersection(holder.groups)
        if key == app.id or not taken:
            continue
        which = group.name if group.name in taken else min(taken)
        why = f'cannot start: adapter group {which} is used by app "{holder.name}"'
        if not holder.leaving:
            hint = "starts by itself when that app is stopped"
            return Wait(
                SwState.INSTALLED,
                f"waiting for adapter {which}",
                Trouble(why=why, since=now, hint=hint),
            )
        trouble = Trouble(why=f"{why} (which is halting)", since=now, severity=Severity.NOTICE)
        return Wait(SwState.INSTALLED, f"waiting for adapter {which}", trouble)
    return None


def _refusal(why: str, now: float) -> Wait:
    return Wait(SwState.INSTALLED, "cannot run here", Trouble(why=why, since=now))
