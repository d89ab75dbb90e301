"""What people are told of a config that is held back: why, since when, and what taking it would
make the node delete, by the node's own word.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError
from msgspec.structs import replace

from edgevirt.fleet import render
from edgevirt.fleet.configs import lineage
from edgevirt.fleet.configs.lineage import ConfigVersion
from edgevirt.fleet.nodes.events import Recorder
from edgevirt.fleet.nodes.objects import NodeObjects
from edgevirt.fleet.objects.base.object import Condition, set_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import EdgeNodeStatus
from edgevirt.fleet.objects.node.held_config import HeldConfig, KeptOnNode
from edgevirt.fleet.render import Objects, Rendered, volumes
from edgevirt.fleet.status import of_app, of_volume
from edgevirt.fleet.telemetry import Stream, Telemetry
from edgevirt.runtime import Clock
from edgevirt.wire.messages import metrics

_MOST: Final = 300
_NAMED: Final = 5
"""In the condition; the rest is in `status.heldConfig`."""
_LONGEST: Final = 253
"""Characters of any object's name."""
_WAITING: Final = "the node's config is held back: see the condition ConfigApplied of its EdgeNode"


class HeldConfigs:
    """One per process."""

    def __init__(
        self, telemetry: Telemetry, objects: NodeObjects, events: Recorder, clock: Clock
    ) -> None:
        self._telemetry = telemetry
        self._objects = objects
        self._events = events
        self._clock = clock

    async def tell(self, objects: Objects, rendered: Rendered, version: ConfigVersion) -> None:
        """Whenever the node asks. `rendered`: what it does not get."""
        held = await self._compare(objects, rendered, version)
        before, now = objects.node.status.held_config, self._clock.now()
        if held != before:
            name = objects.node.metadata.name
            message = f"{_why(held.mark, version.number)} {_next(held, name)}"
            told = Condition(
                type="ConfigApplied", status="False", reason="HeldBack", message=message
            )

            def edit(status: EdgeNodeStatus) -> EdgeNodeStatus:
                conditions = set_condition(status.conditions, told, now)
                return replace(status, conditions=conditions, held_config=held)

            await self._objects.amend_node(objects.node.key, edit)
            if before is None or before.mark != held.mark:
                await self._events.tell(
                    "EdgeNode", objects.node, "ConfigHeldBack", message, warning=True
                )
        await self._tell_what_waits(objects, now)

    async def _compare(
        self, objects: Objects, rendered: Rendered, version: ConfigVersion
    ) -> HeldConfig:
        assert version.held is not None
        held = HeldConfig(
            mark=version.held.mark,
            since=timestamp(version.held.since),
            version=_other_version(objects, rendered),
        )
        record = await self._telemetry.latest(Stream.METRICS, uuid.UUID(objects.node_id).bytes)
        if record is None or record.received < version.held.since:
            return held
        try:
            told = metrics.ZMetricMsg.FromString(record.payload)
        except DecodeError:
            return held
        config = rendered.config
        apps = _beyond(((a.AppName, a.AppID) for a in told.am), {a.id for a in config.apps})
        kept = _beyond(((v.displayName, v.uuid) for v in told.vm), {v.id for v in config.volumes})
        before = objects.node.status.held_config
        if before is not None and before.told_at and (before.apps, before.volumes) == (apps, kept):
            return replace(held, told_at=before.told_at, apps=apps, volumes=kept)
        return replace(held, told_at=timestamp(record.received), apps=apps, volumes=kept)

    async def _tell_what_waits(self, objects: Objects, now: float) -> None:
        """What is new since: nobody else tells it that it has to wait."""
        for instance in objects.instances:
            generation = instance.metadata.generation
            if instance.status.observed_generation != generation:
                place = partial(
                    of_app.place,
                    waiting=_WAITING,
                    generation=generation,
                    app_id=render.app_id(instance),
                    now=now,
                )
                await self._objects.amend_app(instance.key, place)
        for volume in volumes.of_node(objects):
            if not volume.status.volume_id:
                place_volume = partial(
                    of_volume.place, volume=volume, objects=objects, waiting=_WAITING, now=now
                )
                await self._objects.amend_volume(volume, place_volume)


def _beyond(told: Iterable[tuple[str, str]], in_config: Iterable[str]) -> tuple[KeptOnNode, ...]:
    known = set(in_config)
    found = {id: name for name, id in told if id not in known}
    kept = (KeptOnNode(name=name[:_LONGEST], id=id[:_LONGEST]) for id, name in found.items())
    return tuple(sorted(kept, key=lambda one: (one.name, one.id))[:_MOST])


def _other_version(objects: Objects, rendered: Rendered) -> str:
    wanted, runs = rendered.config.base_os, objects.node.status.version
    changes = wanted is not None and wanted.activate and runs and wanted.version != runs
    return wanted.version if wanted is not None and changes else ""


def _why(mark: str, known: int) -> str:
    number = lineage.number_of(mark.encode())
    if number is None:
        return (
            "this fleet was restored from a backup, and the node has not shown yet which config "
            "it has."
        )
    return (
        f"the node has version {number} of its config, and this fleet knows of none after {known}: "
        "its data are older than the node, as after a restore from a backup."
    )


def _next(held: HeldConfig, name: str) -> str:
    lost = [*_named("app", held.apps), *_named("volume", held.volumes)]
    if held.told_at is None:
        what = "what this fleet does not know (the node has yet to tell what it has)"
    else:
        what = ", ".join(lost) or "nothing: all that it tells of is in that config"
        what += "; what is made again by its name before stays" if lost else ""
    more = f", and changes to version {held.version} of its software" if held.version else ""
    return (
        f"It keeps what it has and gets no config since {held.since}. "
        f"`edgevirt overwrite {name}` lets the config go; the node then deletes {what}{more}."
    )


def _named(what: str, kept: tuple[KeptOnNode, ...]) -> list[str]:
    names = [f"{what} {one.name or one.id}" for one in kept[:_NAMED]]
    more = len(kept) - _NAMED
    return [*names, f"{more} {what}s more"] if more > 0 else names
