"""AppInstance: one App on one EdgeNode."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edgevirt.fleet.objects.app.snapshots import Rollback, SnapshotOnNode, validate_rollback
from edgevirt.fleet.objects.base.amounts import check_counter
from edgevirt.fleet.objects.base.columns import AGE, NAME, Column, condition_status
from edgevirt.fleet.objects.base.object import (
    ApiObject,
    ApiStruct,
    Condition,
    Time,
    find_condition,
    set_condition,
)
from edgevirt.fleet.objects.base.problems import Problem, required


class AppInstanceSpec(ApiStruct, frozen=True, kw_only=True):
    """Which app runs where."""

    app: str = ""
    """The App to run."""
    edge_node: str = ""
    """The EdgeNode to run it on."""
    activate: bool = True
    """Whether it runs; when false it is halted, and keeps its data."""
    restart_counter: int = 0
    """Raise it to restart the app once."""
    purge_counter: int = 0
    """Raise it to make the app anew, with empty volumes."""
    rollback: Rollback | None = None
    """Back to a snapshot, until the App changes or the rollback is undone."""


class AppAddress(ApiStruct, frozen=True, kw_only=True):
    """An address of the app."""

    interface: str = ""
    """The interface that has it."""
    ip: str = ""
    """The address."""
    mac: str = ""
    """Hardware address of the interface."""


class AppError(ApiStruct, frozen=True, kw_only=True):
    """Something that went wrong on the node."""

    message: str = ""
    """«cannot X: why»."""
    severity: str = ""
    """`Notice`, `Warning` or `Error`."""
    since: Time | None = None
    """When it went wrong."""
    retry_at: Time | None = None
    """When the node tries again; absent: when the spec changes."""
    hint: str = ""
    """What helps."""


class VolumeOnNode(ApiStruct, frozen=True, kw_only=True):
    """A volume of the app."""

    name: str = ""
    """Its name in the App; `root` for the image's own."""
    state: str = ""
    """Its state, by EVE's names."""
    size: int = 0
    """Bytes that it takes."""
    progress: int = 0
    """Percent of what is to be downloaded."""
    message: str = ""
    """What is wrong with it."""


class AppInstanceStatus(ApiStruct, frozen=True, kw_only=True):
    """The fleet's view of the node's last report of the app."""

    conditions: tuple[Condition, ...] = ()
    """`Ready`, `Scheduled` (the node's config has it), `ImageReady` (the node has its image, or
    says why not)."""
    state: str = ""
    """By EVE's names: `DOWNLOADING`, `BOOTING`, `RUNNING`, `HALTED` and so on."""
    what: str = ""
    """What is going on, in words."""
    runs_as: str = ""
    """`container`, `vm`, `unikernel`, or `container in a vm`; with `, emulated` where the node's
    processor starts no guests."""
    since: Time | None = None
    """When `state` began."""
    app_id: str = msgspec.field(default="", name="appID")
    """The app's UUID on the node."""
    ips: tuple[AppAddress, ...] = ()
    """Its addresses."""
    url: str = ""
    """Where its first TCP port map can be reached."""
    errors: tuple[AppError, ...] = ()
    """What went wrong."""
    restarts: int = 0
    """How often it was started again after it had ended by itself."""
    boot_time: Time | None = None
    """When it was last started."""
    volumes: tuple[VolumeOnNode, ...] = ()
    """Its volumes."""
    progress: int = 0
    """Percent of what is to be downloaded."""
    version: str = ""
    """The App's generation that it runs as."""
    snapshots: tuple[SnapshotOnNode, ...] = ()
    """What it can go back to, oldest first."""
    observed_generation: int | None = None
    """The generation of the spec that the node's config has; `kubectl wait` waits for it."""


class AppInstance(ApiObject, frozen=True, kw_only=True):
    """One App on one EdgeNode."""

    spec: AppInstanceSpec = AppInstanceSpec()
    """Which app runs where."""
    status: AppInstanceStatus = AppInstanceStatus()
    """How it fares."""


def validate(instance: AppInstance) -> Iterator[Problem]:
    spec = instance.spec
    if not spec.app:
        yield required("spec.app", "the name of an App")
    if not spec.edge_node:
        yield required("spec.edgeNode", "the name of an EdgeNode")
    yield from check_counter("spec.restartCounter", spec.restart_counter)
    yield from check_counter("spec.purgeCounter", spec.purge_counter)
    yield from validate_rollback(spec.rollback)


def settle(instance: AppInstance, old: AppInstance | None, _by: str, now: float) -> AppInstance:
    """A new one waits for its node's next question; of a node that is off that may take long."""
    if old is not None:
        return instance
    scheduled = Condition(
        type="Scheduled",
        status="False",
        reason="Waiting",
        message=f'waits until EdgeNode "{instance.spec.edge_node}" next asks for its config',
    )
    status = AppInstanceStatus(
        what="not on the node yet", conditions=set_condition((), scheduled, now)
    )
    return msgspec.structs.replace(instance, status=status)


def _trouble(instance: AppInstance, _now: float) -> str:
    status = instance.status
    if status.errors:
        return status.errors[0].message
    image = find_condition(status.conditions, "ImageReady")
    if image is not None and image.reason == "Failed":
        return f"{status.what}; its image: {image.message}" if status.what else image.message
    scheduled = find_condition(status.conditions, "Scheduled")
    if not status.state and scheduled is not None and scheduled.message:
        return scheduled.message
    return status.what or "<none>"


COLUMNS = (
    NAME,
    Column("App", lambda i, _: i.spec.app),
    Column("Node", lambda i, _: i.spec.edge_node),
    Column("State", lambda i, _: i.status.state or "PENDING"),
    Column("Ready", lambda i, _: condition_status(i.status.conditions, "Ready")),
    Column("Restarts", lambda i, _: i.status.restarts, "integer"),
    Column("Runs As", lambda i, _: i.status.runs_as or "<none>", priority=1),
    Column("IP", lambda i, _: ",".join(a.ip for a in i.status.ips) or "<none>", priority=1),
    Column("URL", lambda i, _: i.status.url or "<none>", priority=1),
    Column("Message", _trouble, priority=1),
    AGE,
)
