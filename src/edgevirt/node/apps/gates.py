"""What an app must wait for before it may run, each in words. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping

import msgspec

from edgevirt.model.app import AppInstance, VolumeRef, overhead_kib
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.baseos import BaseOsStatus
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import HostCapacity, VirtualizationMode
from edgevirt.model.ids import NetworkInstanceId
from edgevirt.model.network import AppNetworkStatus, NetworkInstanceState, NetworkInstanceStatus
from edgevirt.model.volume import VolumeStatus, volume_key
from edgevirt.node.apps.room import Room

_VOLUME_WORDS = {
    SwState.INITIAL: "waiting for",
    SwState.RESOLVING_TAG: "resolving the tag of",
    SwState.RESOLVED_TAG: "resolved the tag of",
    SwState.DOWNLOADING: "downloading",
    SwState.DOWNLOADED: "downloaded",
    SwState.VERIFYING: "verifying",
    SwState.VERIFIED: "verified",
    SwState.LOADING: "unpacking",
    SwState.LOADED: "unpacked",
    SwState.CREATING_VOLUME: "creating",
}
_NO_MACHINES = (
    "the node runs virtual machines once it was started with QEMU installed (Debian: "
    "qemu-system-x86); a container can run without virtualization"
)

_WITHOUT_A_MACHINE = "without virtualization a container needs none"


class Wait(msgspec.Struct, frozen=True):
    """The app goes no further for now."""

    state: SwState
    what: str
    trouble: Trouble | None = None
    progress: int = 0
    again: float | None = None
    """Seconds until it is worth looking again though nothing changed."""


def await_volumes(refs: tuple[VolumeRef, ...], volumes: Mapping[str, VolumeStatus]) -> Wait | None:
    """The one that is furthest behind tells."""
    statuses = [(ref, volumes.get(volume_key(ref.volume, ref.generation))) for ref in refs]
    waiting = [
        (SwState.INITIAL if status is None else status.state, number)
        for number, (_, status) in enumerate(statuses)
        if status is None or status.state != SwState.CREATED_VOLUME
    ]
    if not waiting:
        return None
    state, number = min(waiting)
    ref, status = statuses[number]
    name = (status.name if status is not None else "") or ref.volume
    what = f"{_VOLUME_WORDS.get(state, 'waiting for')} volume {name}"
    if status is not None and state == SwState.DOWNLOADING:
        what = f"downloading {status.progress}% of volume {name}"
    troubles = [status.trouble for _, status in statuses if status is not None]
    return Wait(
        state=state,
        what=what,
        trouble=next((trouble for trouble in troubles if trouble is not None), None),
        progress=sum(_progress(status) for _, status in statuses) // len(statuses),
    )


def await_packed(app: AppInstance, volumes: Mapping[str, VolumeStatus]) -> Wait | None:
    """A container in a virtual machine has its image as a disk. All its volumes are there."""
    if app.resources.mode is VirtualizationMode.NOHYPER:
        return None
    for ref in app.volumes:
        status = volumes[volume_key(ref.volume, ref.generation)]
        if status.format == ContentFormat.CONTAINER and not status.packed:
            what = f"making a disk of the image of volume {status.name or ref.volume}"
            return Wait(SwState.CREATING_VOLUME, what, status.trouble)
    return None


def await_update(update: BaseOsStatus | None) -> Wait | None:
    """An app that does not run is not started while the node's own system is being changed."""
    if update is None:
        return Wait(SwState.INSTALLED, "waiting to know whether the node is being updated")
    if update.updating:
        return Wait(SwState.INSTALLED, "waiting for the end of the node's own update")
    return None


def check_mode(app: AppInstance, capacity: HostCapacity | None, now: float) -> Wait | None:
    if capacity is None:
        return Wait(SwState.INSTALLED, "waiting to know what this machine can run")
    mode = app.resources.mode
    if mode in capacity.modes:
        return None
    why = f"cannot run: this node has no hypervisor for virtualization mode {mode.name}"
    machines = any(one is not VirtualizationMode.NOHYPER for one in capacity.modes)
    hint = "" if machines else _NO_MACHINES
    return Wait(SwState.INSTALLED, "cannot run here", Trouble(why=why, since=now, hint=hint))


def check_guest(
    app: AppInstance,
    volumes: Mapping[str, VolumeStatus],
    capacity: HostCapacity | None,
    now: float,
) -> Wait | None:
    """A container's machine starts with a kernel of the node's. Told before its image is there,
    though one of this format may turn out to be a machine.
    """
    no_guest = "" if capacity is None else capacity.no_guest
    if not no_guest or not app.volumes:
        return None
    ref, mode = app.volumes[0], app.resources.mode
    root = volumes.get(volume_key(ref.volume, ref.generation))
    if root is None or root.format != ContentFormat.CONTAINER or app.resources.kernel:
        return None
    is_there = root.state == SwState.CREATED_VOLUME
    if mode is VirtualizationMode.NOHYPER or (mode is not VirtualizationMode.PV and not is_there):
        return None
    what = "cannot run" if is_there else "cannot run if its image is a container"
    trouble = Trouble(why=f"{what}: {no_guest}", since=now, hint=_WITHOUT_A_MACHINE)
    return Wait(SwState.INSTALLED, "cannot run here", trouble)


def check_sharing(
    app: AppInstance,
    volumes: Mapping[str, VolumeStatus],
    room: Room,
    leaving: Container[str],
    now: float,
) -> Wait | None:
    """Two kernels that write to one file system destroy it. `leaving`: keys of what apps use that
    are being removed, or rolled back.
    """
    for index, ref in enumerate(app.volumes):
        key = volume_key(ref.volume, ref.generation)
        status = volumes.get(key)
        if status is None:
            continue
        # a container's own image gets directories to mount on, whoever may write to it
        mounted_on = index == 0 and status.format == ContentFormat.CONTAINER
        if (status.readonly and not mounted_on) or not status.path:
            continue
        name = status.name or ref.volume
        if key in leaving:
            what = (
                f"waiting for volume {name}, which an app uses that is being removed or rolled back"
            )
            return Wait(SwState.INSTALLED, what)
        user = room.user_of(status.path, app.id)
        if user:
            why = f'cannot start: volume {name} is used by app "{user}", and both may write to it'
            hint = "starts by itself when that app is stopped; a read-only volume can be shared"
            trouble = Trouble(why=why, since=now, hint=hint)
            return Wait(SwState.INSTALLED, f"waiting for volume {name}", trouble)
    return None


def check_memory(app: AppInstance, room: Room, now: float) -> Wait | None:
    overhead = overhead_kib(app.resources)
    need = (app.resources.memory_kib + overhead) * 1024
    left = max(0, room.memory_left(app.id))
    if need <= left:
        return None
    why = f"cannot start: it needs {_memory(need)}"
    if overhead:
        why += f" ({_memory(overhead * 1024)} of that for its virtual machine)"
    if need > room.memory:
        why += f", this node has {_memory(room.memory)} for all apps"
        hint = "starts by itself when less is asked for"
        return Wait(SwState.INSTALLED, "cannot run here", Trouble(why=why, since=now, hint=hint))
    why += f", {_memory(left)} of this node's {_memory(room.memory)} for apps are free"
    hint = "starts by itself when another app is stopped"
    return Wait(SwState.INSTALLED, "waiting for memory", Trouble(why=why, since=now, hint=hint))


def _memory(bytes: int) -> str:
    """In whole MiB, as memory is given; what is asked for is rounded up nowhere."""
    return f"{bytes >> 20} MiB"


def check_processors(
    app: AppInstance, room: Room, capacity: HostCapacity | None, now: float
) -> Wait | None:
    """Of its own, if it asks for such: they are there before anything starts, or it does not."""
    if not app.resources.dedicated or capacity is None:
        return None
    need, left = app.resources.vcpus, room.processors_left(app.id)
    if need <= left:
        return None
    may_have = sum(map(len, capacity.cores))
    why = f"cannot start: it needs {need} processor{'s' * (need > 1)} of its own, "
    if need > may_have:
        why += f"this node has {may_have} to give" + (
            f": {capacity.no_cores}" if capacity.no_cores else ", the first core is for all"
        )
        return Wait(SwState.INSTALLED, "cannot run here", Trouble(why=why, since=now))
    why += f"{left} of {may_have} are free: others are held by {', '.join(room.holders())}"
    trouble = Trouble(why=why, since=now, hint="starts by itself when one of them is stopped")
    return Wait(SwState.INSTALLED, "waiting for processors", trouble)


def await_delay(app: AppInstance, since_start: float) -> Wait | None:
    """`since_start`: seconds since the node began to start apps."""
    left = app.delay - since_start
    if left <= 0:
        return None
    what = f"start delayed by {app.delay} s after the node's own"
    return Wait(SwState.START_DELAYED, what, again=left)


def await_network_instances(
    app: AppInstance, instances: Mapping[str, NetworkInstanceStatus]
) -> Wait | None:
    wanted: list[NetworkInstanceId] = [interface.network for interface in app.interfaces]
    for network in wanted:
        status = instances.get(network)
        if status is None or status.state != NetworkInstanceState.ONLINE:
            name = (status.name if status is not None else "") or network
            what = f"waiting for network instance {name}"
            trouble = None if status is None else status.trouble
            return Wait(SwState.AWAITNETWORKINSTANCE, what, trouble)
    return None


def await_network(app: AppInstance, status: AppNetworkStatus | None) -> Wait | None:
    if not app.interfaces:
        return None
    if status is not None and status.ready and _fits(app, status):
        return None
    trouble = None if status is None else status.trouble
    return Wait(SwState.AWAITNETWORKINSTANCE, "waiting for its network", trouble)


def _fits(app: AppInstance, status: AppNetworkStatus) -> bool:
    """Whether the network is the one of these interfaces, not of those before a change."""
    return len(app.interfaces) == len(status.vifs) and all(
        vif.network == wanted.network
        and (not wanted.mac or wanted.mac.lower() == vif.mac.lower())
        and (not wanted.ip or wanted.ip == vif.ip)
        for wanted, vif in zip(app.interfaces, status.vifs, strict=True)
    )


def _progress(status: VolumeStatus | None) -> int:
    if status is None:
        return 0
    return 100 if status.state == SwState.CREATED_VOLUME else status.progress
