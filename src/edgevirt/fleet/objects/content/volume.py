"""Volume: data on a node that no App owns. An App names it; it stays when the App goes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.base.amounts import check_counter, check_size
from edgevirt.fleet.objects.base.columns import AGE, NAME, Column, condition_status
from edgevirt.fleet.objects.base.object import ApiObject, ApiStruct, Condition, Time
from edgevirt.fleet.objects.base.problems import Problem, invalid, required
from edgevirt.model.quantity import Quantity, human, whole


class VolumeSpec(ApiStruct, frozen=True, kw_only=True):
    """Where it is, and what is in it at first."""

    edge_node: str = ""
    """The EdgeNode that it is on. Cannot be changed."""
    size: Quantity = 0
    """Room for data, such as `10Gi`; one made from an Image is at least as big as that, and may
    leave it out. Raise it, and the volume grows while its app runs. It cannot become smaller than
    the volume is, unless `purgeCounter` is raised too."""
    image: str = ""
    """The Image that it is made from; empty: it is blank. Cannot be changed."""
    read_only: bool = False
    """Nobody writes to it, and any number of apps have it at the same time; one that may be written
    is one app's at a time. It is made anew when its Image becomes another one. Cannot be
    changed."""
    purge_counter: int = 0
    """Raise it to make it anew: what is in it is lost."""


class VolumeStatus(ApiStruct, frozen=True, kw_only=True):
    """The fleet's view of the node's last report of it."""

    conditions: tuple[Condition, ...] = ()
    """`Ready` (apps can use it), `Scheduled` (the node's config has it)."""
    state: str = ""
    """By EVE's names: `DOWNLOADING`, `CREATING_VOLUME`, `CREATED_VOLUME` and so on."""
    what: str = ""
    """What is going on, in words."""
    severity: str = ""
    """Of what is amiss, if anything is: `Notice`, `Warning` or `Error`; only the last keeps apps
    from using it."""
    since: Time | None = None
    """When `state` began."""
    progress: int = 0
    """Percent of what is to be downloaded."""
    capacity: int = 0
    """Bytes that there is room for."""
    used: int = 0
    """Bytes that it takes on the node's disk."""
    used_by: tuple[str, ...] = ()
    """AppInstances that name it."""
    volume_id: str = msgspec.field(default="", name="volumeID")
    """Its UUID on the node."""
    volume_generation: int = 0
    """Its generation on the node: another one is another volume."""


class Volume(ApiObject, frozen=True, kw_only=True):
    """Data on a node that no App owns."""

    spec: VolumeSpec = VolumeSpec()
    """Where it is, and what is in it at first."""
    status: VolumeStatus = VolumeStatus()
    """How it fares."""


def validate(volume: Volume) -> Iterator[Problem]:
    spec = volume.spec
    if not spec.edge_node:
        yield required("spec.edgeNode", "the name of an EdgeNode")
    if not spec.image and not spec.size:
        yield required("spec.size", "a blank volume has one")
    elif spec.size:
        yield from check_size("spec.size", spec.size, least=2**20)
    if spec.read_only and not spec.image:
        yield invalid("spec.readOnly", True, "a blank volume that nobody writes to stays empty")
    yield from check_counter("spec.purgeCounter", spec.purge_counter)


def check_change(volume: Volume, old: Volume) -> Iterator[Problem]:
    """Both are valid, each by itself. What it never grew to may be taken back."""
    before = bytes_of(old)
    has = min(before, old.status.capacity or before)
    is_anew = volume.spec.purge_counter > old.spec.purge_counter
    if bytes_of(volume) < has and not is_anew:
        why = f"cannot make volume {volume.metadata.name} smaller: it has {human(has)}"
        hint = "raise purgeCounter too, and it is made anew, without what is in it"
        yield invalid("spec.size", volume.spec.size, f"{why}; {hint}")


def _size(volume: Volume, _now: float) -> str:
    """As it is, and as it is to be, if that is more."""
    wanted, there = bytes_of(volume), volume.status.capacity
    if there and wanted > there:
        return f"{human(there)}/{volume.spec.size}"
    if volume.spec.size:
        return str(volume.spec.size)
    return human(there) if there else "<none>"


COLUMNS = (
    NAME,
    Column("Node", lambda v, _: v.spec.edge_node),
    Column("Size", _size),
    Column("Access", lambda v, _: "ReadOnly" if v.spec.read_only else "ReadWrite"),
    Column("State", lambda v, _: v.status.state or "PENDING"),
    Column("Ready", lambda v, _: condition_status(v.status.conditions, "Ready")),
    Column("Used By", lambda v, _: ",".join(v.status.used_by) or "<none>"),
    Column("Used", lambda v, _: human(v.status.used) if v.status.used else "<none>", priority=1),
    Column("Image", lambda v, _: v.spec.image or "<blank>", priority=1),
    Column("Message", lambda v, _: v.status.what or "<none>", priority=1),
    AGE,
)
IMMUTABLE = ("spec.edgeNode", "spec.image", "spec.readOnly")


def bytes_of(volume: Volume) -> int:
    """Room that is asked for; 0: as much as its image needs."""
    return whole(volume.spec.size)
