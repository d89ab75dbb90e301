"""Volumes that are to grow: whose turn it is, their domains' or the volumes service's. Pure.

A running domain is told what size its disks are to have. What no domain has is yielded, and as long
as that lasts nothing is started with it: so nobody ever makes a disk bigger under a machine that
does not know.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from msgspec.structs import replace

from edgevirt.model.app import AppInstance, AppInstanceApplied
from edgevirt.model.base import SwState
from edgevirt.model.domain import DomainStatus, DomainVolume
from edgevirt.model.volume import Growth, VolumeStatus, volume_key
from edgevirt.node.apps.facts import is_down, is_live
from edgevirt.node.apps.gates import Wait


def held_volumes(
    applied: Iterable[AppInstanceApplied], domains: Mapping[str, DomainStatus], boot: str
) -> frozenset[str]:
    """Keys of volumes that domains have, or may have at any moment."""
    return frozenset(
        volume_key(ref.volume, ref.generation)
        for known in applied
        if is_live(known, boot) and not is_down(known, domains.get(known.app.id))
        for ref in known.app.volumes
    )


def await_growth(
    app: AppInstance, volumes: Mapping[str, VolumeStatus], held: Container[str]
) -> Wait | None:
    """Before it is started. What another app's domain has is not waited for: it grows there."""
    for ref in app.volumes:
        key = volume_key(ref.volume, ref.generation)
        status = volumes.get(key)
        if status is not None and status.growing is not None and key not in held:
            what = f"growing volume {status.name or ref.volume}"
            return Wait(SwState.CREATING_VOLUME, what)
    return None


def yielded(volumes: Mapping[str, VolumeStatus], held: Container[str]) -> dict[str, Growth]:
    """By the volume's key."""
    return {
        key: status.growing
        for key, status in volumes.items()
        if status.growing is not None and key not in held
    }


def grow_disks(
    applied: AppInstanceApplied, volumes: Mapping[str, VolumeStatus]
) -> AppInstanceApplied:
    """Its domain told what sizes its disks are to have; they never become smaller."""
    domain = applied.domain
    if domain is None or not domain.activate:
        return applied
    keys = (volume_key(ref.volume, ref.generation) for ref in applied.app.volumes)
    statuses = [volumes[key] for key in keys if key in volumes]
    sizes = {one.path: one.growing.size for one in statuses if one.growing is not None}

    def sized(volume: DomainVolume) -> DomainVolume:
        size = max(volume.size, sizes.get(volume.path, 0))
        return volume if size == volume.size else replace(volume, size=size)

    disks = tuple(sized(volume) for volume in domain.volumes)
    return (
        applied
        if disks == domain.volumes
        else replace(applied, domain=replace(domain, volumes=disks))
    )
