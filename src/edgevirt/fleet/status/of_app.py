"""From what a node tells of an app, its volumes and its image to the AppInstance's status. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edgevirt.fleet.objects.app.app import BARE, CONTAINER, App
from edgevirt.fleet.objects.app.instance import (
    AppAddress,
    AppError,
    AppInstance,
    AppInstanceStatus,
    VolumeOnNode,
)
from edgevirt.fleet.objects.base.object import Condition, set_condition, timestamp
from edgevirt.fleet.objects.node.edgenode import NodeAddress
from edgevirt.fleet.status import of_snapshots
from edgevirt.model.domain import ENDED
from edgevirt.wire.convert.reports import read_retry
from edgevirt.wire.messages import info

MAX_ERRORS: Final = 10
BOOTING: Final = "BOOTING"
RUNNING: Final = "RUNNING"
IMAGE_READY: Final = "ImageReady"
"""The condition that tells of the image that the app should be made from now."""
_EMULATED: Final = ", emulated"
_OURS: Final = "cannot "

_STATES: Final = {
    info.INVALID: "",
    info.DOWNLOAD_STARTED: "DOWNLOADING",
    info.DELIVERED: "LOADED",
    info.ERROR: "FAILED",
}
"""Where the wire's name differs from that of EVE's states."""
MAKING: Final = {
    "": "not on the node yet",
    "INITIAL": "waiting for its parts",
    "RESOLVING_TAG": "asking the registry which image the tag means",
    "RESOLVED_TAG": "about to download",
    "DOWNLOADING": "downloading",
    "DOWNLOADED": "downloaded",
    "VERIFYING": "verifying what was downloaded",
    "VERIFIED": "verified",
    "LOADING": "unpacking",
    "LOADED": "unpacked",
}
"""Words for the states in which what an app or a Volume is made of arrives."""
_WORDS: Final = {
    **MAKING,
    "CREATING_VOLUME": "creating volumes",
    "CREATED_VOLUME": "volumes are ready",
    "INSTALLED": "ready to start",
    "AWAITNETWORKINSTANCE": "waiting for its network",
    "START_DELAYED": "start is delayed",
    "BOOTING": "starting",
    "RUNNING": "running",
    "HALTING": "stopping",
    "HALTED": "stopped",
    "RESTARTING": "restarting",
    "PURGING": "being made anew",
    "FAILED": "failed",
    "PENDING": "pending",
    "SCHEDULING": "being scheduled",
}
SEVERITIES: Final = {
    info.SEVERITY_NOTICE: "Notice",
    info.SEVERITY_WARNING: "Warning",
    info.SEVERITY_ERROR: "Error",
}


def state_name(state: info.ZSwState) -> str:
    """By EVE's names; empty: none."""
    if state in _STATES:
        return _STATES[state]
    if state in info.ZSwState.values():
        return info.ZSwState.Name(state)
    return "UNKNOWN"


def fill(status: AppInstanceStatus, told: info.ZInfoApp, now: float) -> AppInstanceStatus:
    """`status` after the node told of the app. A start of an app that had ended by itself counts
    as a restart; any other was asked for.
    """
    state = state_name(told.state)
    errors = tuple(map(_error, told.appErr))[:MAX_ERRORS]
    boot = timestamp(told.bootTime.seconds) if told.HasField("bootTime") else None
    crashed = (
        boot is not None
        and status.boot_time is not None
        and boot > status.boot_time
        and (any(map(_is_end, errors)) or _ended(status))
    )
    filled = msgspec.structs.replace(
        status,
        state=state,
        what=_in_words(state, errors),
        since=status.since if status.since and state == status.state else timestamp(now),
        app_id=told.AppID,
        ips=tuple(
            AppAddress(interface=vif.devName, ip=address, mac=vif.macAddr)
            for vif in told.network
            for address in vif.IPAddrs
        ),
        errors=errors,
        boot_time=boot or status.boot_time,
        version=told.appVersion[:64],
        snapshots=of_snapshots.told(told.snapshots),
        restarts=status.restarts + 1 if crashed else status.restarts,
    )
    return msgspec.structs.replace(filled, conditions=_conditions(filled, now))


def _ended(status: AppInstanceStatus) -> bool:
    """By itself. Other errors of ours («cannot X: why») may stand for long, while the app is
    restarted because it was asked to; of an EVE node an error is all that there is.
    """
    return status.state != RUNNING and any(
        _is_end(error) or (error.severity == "Error" and not error.message.startswith(_OURS))
        for error in status.errors
    )


def _is_end(error: AppError) -> bool:
    return error.message.startswith(ENDED)


def _in_words(state: str, errors: Sequence[AppError]) -> str:
    """The wire has one name for an app that is stopping and for one that could not be started."""
    if state == "HALTING" and any(error.severity == "Error" for error in errors):
        return "could not be started"
    if state == "HALTED" and any(error.retry_at for error in errors):
        return "ended; it is started again by itself"
    if state == "INSTALLED" and errors:
        return "cannot start yet"
    return _WORDS.get(state, state.lower().replace("_", " "))


def compare(status: AppInstanceStatus, instance: AppInstance, app: App | None) -> AppInstanceStatus:
    """`status`, which was just filled, with words for what is not as the App says."""
    version = str(app.metadata.generation) if app is not None else ""
    more = of_snapshots.words(instance, status, version)
    return msgspec.structs.replace(status, what=f"{status.what}; {more}") if more else status


def fill_volume(status: AppInstanceStatus, name: str, told: info.ZInfoVolume) -> AppInstanceStatus:
    """`name`: the volume's in the App, or `root`."""
    volume = VolumeOnNode(
        name=name,
        state=state_name(told.state),
        size=told.resources.curSizeBytes,
        progress=told.progressPercentage,
        message=told.volumeErr.description,
    )
    others = tuple(held for held in status.volumes if held.name != name)
    kept = others if not told.state else tuple(sorted((*others, volume), key=lambda v: v.name))
    progress = volume.progress if name == "root" and told.state else status.progress
    return msgspec.structs.replace(status, volumes=kept, progress=progress)


def fill_image(
    status: AppInstanceStatus, told: info.ZInfoContentTree, now: float
) -> AppInstanceStatus:
    """What the node tells of the image says more than the app, as long as it is fetched; and of one
    that an app that runs should change to, it is all there is.
    """
    if not told.state:
        return status
    state, why = state_name(told.state), _why(told.err)
    ready = state == "LOADED" and not why
    condition = Condition(
        type=IMAGE_READY,
        status="True" if ready else "False",
        reason="Failed" if why else _camel(state),
        message="" if ready else why or _WORDS.get(state, state.lower()),
    )
    filled = msgspec.structs.replace(
        status, conditions=set_condition(status.conditions, condition, now)
    )
    if status.state not in ("", "INITIAL"):
        return filled
    return msgspec.structs.replace(
        filled,
        what=f"its image: {why or _WORDS.get(state, state.lower())}",
        progress=told.progressPercentage,
    )


def _why(told: info.ErrorInfo) -> str:
    """With what helps, where the node knows it."""
    hint, _ = read_retry(told.retry_condition)
    return "; ".join(word for word in (told.description[:1_000], hint[:500]) if word)


def place(
    status: AppInstanceStatus, waiting: str, generation: int, app_id: str, now: float
) -> AppInstanceStatus:
    """`status` once the node's config was made. `waiting`: why the app isn't in it, or cannot
    start by it; empty: all is well.
    """
    scheduled = Condition(
        type="Scheduled",
        status="False" if waiting else "True",
        reason="Waiting" if waiting else "InConfig",
        message=waiting,
        observed_generation=generation,
    )
    return msgspec.structs.replace(
        status,
        conditions=set_condition(status.conditions, scheduled, now),
        observed_generation=generation,
        app_id=app_id,
        what=waiting or status.what or _WORDS[""],
    )


def unreachable(status: AppInstanceStatus, why: str, now: float) -> AppInstanceStatus:
    """`status` while the node is silent: what was true may be no longer."""
    ready = Condition(type="Ready", status="Unknown", reason="NodeSilent", message=why)
    return msgspec.structs.replace(status, conditions=set_condition(status.conditions, ready, now))


def reachable(status: AppInstanceStatus, now: float) -> AppInstanceStatus:
    """`status` when the node is heard of again."""
    return msgspec.structs.replace(status, conditions=_conditions(status, now))


def url_of(app: App, addresses: Sequence[NodeAddress]) -> str:
    """Where the app's first TCP port map can be reached: the node's first IPv4 address."""
    host = next((a.address for a in addresses if a.address and ":" not in a.address), "")
    port = next(
        (
            port.node_port
            for interface in app.spec.interfaces
            for port in interface.ports
            if port.protocol == "TCP"
        ),
        0,
    )
    return f"http://{host.partition('/')[0]}:{port}" if host and port else ""


def runs_as(app: App, virtualization: str) -> str:
    """`virtualization`: as the node's status has it."""
    if app.virtualization == BARE:
        return "container"
    kind = "container in a vm" if app.spec.type == CONTAINER else app.spec.type.lower()
    return f"{kind}{_EMULATED}" if virtualization == "Emulated" else kind


def starting(status: AppInstanceStatus) -> AppInstanceStatus:
    """`status` with a word on why it takes long."""
    if status.state != BOOTING or not status.runs_as.endswith(_EMULATED):
        return status
    return msgspec.structs.replace(status, what=f"{status.what}; emulated, which takes a while")


def _error(told: info.ErrorInfo) -> AppError:
    hint, retry_at = read_retry(told.retry_condition)
    return AppError(
        message=told.description[:1_000],
        severity=SEVERITIES.get(told.severity, "Error"),
        since=timestamp(told.timestamp.seconds) if told.timestamp.seconds else None,
        retry_at=timestamp(retry_at) if retry_at is not None else None,
        hint=hint[:500],
    )


def _conditions(status: AppInstanceStatus, now: float) -> tuple[Condition, ...]:
    worst = next((error.message for error in status.errors), "")
    ready = status.state == RUNNING
    condition = Condition(
        type="Ready",
        status="True" if ready else "False",
        reason=_camel(status.state) or "NotOnNode",
        message="" if ready else worst or status.what,
    )
    return set_condition(status.conditions, condition, now)


def _camel(state: str) -> str:
    return "".join(part.capitalize() for part in state.split("_"))
