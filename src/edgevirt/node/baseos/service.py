"""The service: one planner, one reconciler, and no right but to three partitions."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgevirt import __version__
from edgevirt.host.disk.no_slots import NoSlots
from edgevirt.host.disk.slots import DiskSlots, Slots
from edgevirt.model.machine import Boot
from edgevirt.node.baseos.planner import BaseOsPlanner
from edgevirt.node.baseos.restarts import RestartPlanner
from edgevirt.node.baseos.slots import SlotsReconciler
from edgevirt.node.service import Context, Service
from edgevirt.runtime import engine


async def run(context: Context) -> None:
    await serve(context, slots_of(context))


async def serve(context: Context, slots: Slots) -> None:
    planner = BaseOsPlanner(read_boot(context.paths.boot_record, context.clock.now()))
    reconciler = SlotsReconciler(slots, context.clock)
    controllers = (RestartPlanner(), planner, reconciler)
    await engine.run(context.store, context.clock, controllers)


def slots_of(context: Context) -> Slots:
    settings = context.settings
    partitions = {label: Path(device) for label, device in settings.partitions}
    if settings.host_mode or settings.slot not in partitions:
        return NoSlots(settings.version or __version__, settings.slot or "IMGA")
    return DiskSlots(settings.slot, partitions)


def read_boot(record: Path, now: float) -> Boot:
    """A start that nobody has written down is the first one."""
    try:
        return msgspec.json.decode(record.read_bytes(), type=Boot)
    except (OSError, msgspec.DecodeError):
        return Boot(at=now)


SERVICE = Service(
    name="baseos",
    reads=(*BaseOsPlanner.reads, *RestartPlanner.reads),
    owns=(*BaseOsPlanner.owns, *RestartPlanner.owns, SlotsReconciler.status),
    run=run,
)
