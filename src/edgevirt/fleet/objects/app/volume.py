"""Places for an app's data: its own, made from an Image, or a Volume."""

from __future__ import annotations

from collections.abc import Iterator

from edgevirt.fleet.objects.base.amounts import check_size
from edgevirt.fleet.objects.base.names import check_label
from edgevirt.fleet.objects.base.object import ApiStruct
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.model.quantity import Quantity

DEVICES = ("Disk", "CDROM", "Floppy")
OWN_SIZE = "100Mi"


class AppVolume(ApiStruct, frozen=True, kw_only=True):
    """A place for data that outlives restarts; a purge makes it new."""

    merge_keys = ("name",)

    name: str = ""
    """Its name within the app."""
    size: Quantity = OWN_SIZE
    """Room for data, such as `1Gi`; one made from an Image is at least as big as that."""
    volume: str = ""
    """The Volume that it is, on the same node, instead of one of the app's own: a purge leaves it
    as it is, and it stays when the app goes."""
    mount_path: str = ""
    """Where a container sees it: an absolute path."""
    image: str = ""
    """The Image that it is made from; empty: it is blank."""
    device: str = ""
    """What it is to a virtual machine: `Disk` (also when empty), `CDROM` or `Floppy`."""


def check_volumes(volumes: tuple[AppVolume, ...], *, container: bool) -> Iterator[Problem]:
    names: set[str] = set()
    mounts: set[str] = set()
    for index, volume in enumerate(volumes):
        path = f"spec.volumes[{index}]"
        yield from check_label(f"{path}.name", volume.name)
        if volume.name in names:
            yield duplicate(f"{path}.name", volume.name)
        yield from check_size(f"{path}.size", volume.size, least=2**20)
        names.add(volume.name)
        if volume.volume:
            yield from _check_named(path, volume)
        if not container:
            yield from _check_device(path, volume)
            continue
        if volume.image or volume.device:
            field, given = ("image", volume.image) if volume.image else ("device", volume.device)
            yield invalid(f"{path}.{field}", given, "of a virtual machine only")
        mount = volume.mount_path
        if not mount:
            yield required(f"{path}.mountPath", "an absolute path in the app")
        elif not mount.startswith("/") or mount == "/" or ".." in mount.split("/"):
            yield invalid(f"{path}.mountPath", mount, "must be an absolute path below /, no '..'")
        elif mount.rstrip("/") in mounts:
            yield duplicate(f"{path}.mountPath", mount)
        mounts.add(mount.rstrip("/"))


def _check_named(path: str, volume: AppVolume) -> Iterator[Problem]:
    why = f"Volume {volume.volume!r} says it"
    if volume.image:
        yield invalid(f"{path}.image", volume.image, why)
    if volume.size != OWN_SIZE:
        yield invalid(f"{path}.size", volume.size, why)


def _check_device(path: str, volume: AppVolume) -> Iterator[Problem]:
    if volume.mount_path:
        why = "a virtual machine mounts its disks itself"
        yield invalid(f"{path}.mountPath", volume.mount_path, why)
    if volume.device not in ("", *DEVICES):
        yield unsupported(f"{path}.device", volume.device, DEVICES)
    elif volume.device in ("CDROM", "Floppy") and not (volume.image or volume.volume):
        yield required(f"{path}.image", f"what is in the {volume.device}")
