"""From an app, its volumes and its network to the domain that runs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from edgevirt.model.app import AppInstance, Domain, DomainVolume
from edgevirt.model.content import ImageConfig
from edgevirt.model.network import AppNetworkStatus
from edgevirt.model.volume import VolumeStatus, volume_key


def make_domain(
    app: AppInstance,
    *,
    number: int,
    generation: int,
    volumes: Mapping[str, VolumeStatus],
    network: AppNetworkStatus | None,
) -> Domain:
    """All gates are passed: every volume is created, the network is ready."""
    used = [(ref, volumes[volume_key(ref.volume, ref.generation)]) for ref in app.volumes]
    root = used[0][1] if used else None
    connected = network if app.interfaces else None
    return Domain(
        app=app.id,
        name=f"{app.id}.{app.version}.{number}",
        display_name=app.name,
        activate=True,
        generation=generation,
        mode=app.resources.mode,
        memory_kib=app.resources.memory_kib,
        vcpus=app.resources.vcpus,
        volumes=tuple(
            DomainVolume(
                path=status.path,
                format=status.format,
                mount_dir=ref.mount_dir,
                readonly=status.readonly,
                layers=status.layers,
            )
            for ref, status in used
        ),
        image=(root.image if root is not None else None) or ImageConfig(),
        user_data=app.user_data,
        has_secret=app.cipher is not None,
        netns="" if connected is None else connected.netns,
        dns=() if connected is None else connected.dns,
        hostname=app.id,
    )
