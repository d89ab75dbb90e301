"""From an app, its volumes and its network to the domain that runs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from edgevirt.model.app import (
    AppInstance,
    Domain,
    DomainVif,
    DomainVolume,
    VirtualizationMode,
    overhead_kib,
)
from edgevirt.model.content import ImageConfig
from edgevirt.model.ids import VolumeId
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
    resources = app.resources
    paths = {ref.volume: status.path for ref, status in used}
    lent = {resources.kernel, resources.ramdisk} - {""}
    return Domain(
        app=app.id,
        name=f"{app.id}.{app.version}.{number}",
        display_name=app.name,
        activate=True,
        generation=generation,
        mode=resources.mode,
        memory_kib=resources.memory_kib,
        overhead_kib=overhead_kib(resources),
        vcpus=resources.vcpus,
        boot_mode=resources.boot_mode,
        volumes=tuple(
            DomainVolume(
                path=status.path,
                format=status.format,
                mount_dir=ref.mount_dir,
                readonly=status.readonly,
                layers=status.layers,
            )
            for ref, status in used
            if ref.volume not in lent
        ),
        # an id that is none of its volumes is no path either, which the hypervisor will say
        kernel=paths.get(VolumeId(resources.kernel), resources.kernel),
        ramdisk=paths.get(VolumeId(resources.ramdisk), resources.ramdisk),
        kernel_arguments=resources.kernel_arguments,
        vifs=_vifs(app, connected),
        image=(root.image if root is not None else None) or ImageConfig(),
        user_data=app.user_data,
        has_secret=app.cipher is not None,
        netns="" if connected is None else connected.netns,
        dns=() if connected is None else connected.dns,
        hostname=app.id,
    )


def _vifs(app: AppInstance, network: AppNetworkStatus | None) -> tuple[DomainVif, ...]:
    if network is None or app.resources.mode is VirtualizationMode.NOHYPER:
        return ()
    return tuple(DomainVif(host_name=vif.host_name, mac=vif.mac) for vif in network.vifs)
