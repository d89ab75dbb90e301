"""What a changed config asks of a running app: nothing, a restart, or a purge. Pure.

By EVE's rules: some changes apply to a running app, some wait silently for its next restart, and
some are refused until the controller orders a restart or a purge by raising a counter.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, Resources
from edgevirt.model.domain import BootOrder
from edgevirt.model.network import AppInterface


class Changes(msgspec.Struct, frozen=True):
    """`restart` and `purge`: ordered. The `unordered`: sentences about what is refused."""

    restart: bool
    purge: bool
    unordered: tuple[str, ...]
    staged: bool
    """Something waits for the next restart, and nobody needs to be told."""
    warned: str = ""
    """The same, but somebody has to be."""


NOTHING = Changes(restart=False, purge=False, unordered=(), staged=False)


def compare(running: AppInstance, wanted: AppInstance) -> Changes:
    restart = wanted.restart_counter != running.restart_counter
    purge = wanted.purge_counter != running.purge_counter
    unordered, warned = [], ""
    ordered = restart or purge
    if _but_boot_order(wanted) != _but_boot_order(running) and not ordered:
        unordered.append("Need restart due to changed resources but not a restartCmd")
    for name, changed in (
        ("volumes", wanted.volumes != running.volumes),
        ("adapters", wanted.adapters != running.adapters),
    ):
        if changed and not purge:
            unordered.append(f"Need purge due to changed {name} but not a purgeCmd")
    if wanted.resources != running.resources and not (ordered or unordered):
        before, now = running.resources.boot_order.name, wanted.resources.boot_order.name
        warned = f"BootOrder changed from {before} to {now} - restart required to apply"
    staged = not ordered and (
        _addresses(wanted) != _addresses(running)
        or (wanted.user_data, wanted.cipher) != (running.user_data, running.cipher)
    )
    return Changes(restart, purge, tuple(unordered), staged, warned)


def merge_live(running: AppInstance, wanted: AppInstance) -> AppInstance:
    """`running`, with what of `wanted` applies at once: access rules, name, and whether to run."""
    acls = {interface.name: interface.acls for interface in wanted.interfaces}
    return replace(
        running,
        name=wanted.name,
        activate=wanted.activate,
        delay=wanted.delay,
        disable_logs=wanted.disable_logs,
        profiles=wanted.profiles,
        snapshot=wanted.snapshot,
        interfaces=tuple(
            replace(interface, acls=acls.get(interface.name, interface.acls))
            for interface in running.interfaces
        ),
    )


def restarted(running: AppInstance, wanted: AppInstance) -> AppInstance:
    """What runs after a restart without a purge: all that is wanted, on the volumes of before."""
    return replace(
        wanted,
        volumes=running.volumes,
        adapters=running.adapters,
        purge_counter=running.purge_counter,
    )


def same_content(one: AppInstance, other: AppInstance) -> bool:
    """Whether a restart with `other` instead of `one` would make a difference to the app."""
    live = merge_live(one, other)
    same = replace(live, version=other.version, restart_counter=other.restart_counter)
    return same == other


def same_network(one: AppInstance, other: AppInstance) -> bool:
    """Whether that of the one serves the other, in whatever order."""
    return _unordered(one) == _unordered(other)


def _but_boot_order(app: AppInstance) -> Resources:
    return replace(app.resources, boot_order=BootOrder.UNSPECIFIED)


def _addresses(app: AppInstance) -> tuple[AppInterface, ...]:
    return tuple(replace(interface, acls=(), rest=b"") for interface in app.interfaces)


def _unordered(app: AppInstance) -> tuple[AppInterface, ...]:
    return tuple(replace(interface, order=0) for interface in _addresses(app))
