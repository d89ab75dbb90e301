"""From an app, its volumes and its network to the domain that runs it. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Final

from edgevirt.model.app import AppInstance, VolumeRef, overhead_kib
from edgevirt.model.content import ImageConfig
from edgevirt.model.domain import BootOrder, Domain, DomainVif, DomainVolume, VirtualizationMode
from edgevirt.model.ids import VolumeId
from edgevirt.model.network import AppNetworkStatus
from edgevirt.model.volume import VolumeStatus, volume_key
from edgevirt.node.apps.adapters import Adapters
from edgevirt.node.apps.interface_order import placed_devices, placed_vifs

MODES: Final = {
    "PV": VirtualizationMode.PV,
    "HVM": VirtualizationMode.HVM,
    "FML": VirtualizationMode.FML,
    "Legacy": VirtualizationMode.LEGACY,
    "None": VirtualizationMode.NOHYPER,
}
"""As an image declares them."""

_WITHOUT_TPM: Final = (VirtualizationMode.NOHYPER, VirtualizationMode.LEGACY)

_Used = tuple[VolumeRef, VolumeStatus]


def make_domain(
    app: AppInstance,
    *,
    number: int,
    generation: int,
    volumes: Mapping[str, VolumeStatus],
    network: AppNetworkStatus | None,
    cpus: tuple[int, ...] = (),
    adapters: Adapters | None = None,
    boot_order: BootOrder = BootOrder.UNSPECIFIED,
) -> Domain:
    """All gates are passed: every volume is created, the network is ready. `boot_order`: if the
    app says nothing of it.
    """
    adapters = adapters or Adapters()
    used = [(ref, volumes[volume_key(ref.volume, ref.generation)]) for ref in app.volumes]
    root = used[0][1] if used else None
    kernel, ramdisk, arguments = _boot(app, used)
    connected = network if app.interfaces else None
    resources = app.resources
    mode = mode_of(app, root)
    return Domain(
        app=app.id,
        name=f"{app.id}.{app.version}.{number}",
        display_name=app.name,
        activate=True,
        generation=generation,
        mode=mode,
        memory_kib=resources.memory_kib,
        overhead_kib=overhead_kib(resources),
        vcpus=resources.vcpus,
        cpus=cpus,
        boot_mode=resources.boot_mode,
        boot_order=resources.boot_order or boot_order,
        volumes=tuple(_volumes(used, lent={resources.kernel, resources.ramdisk})),
        kernel=kernel,
        ramdisk=ramdisk,
        kernel_arguments=arguments,
        vifs=placed_vifs(app, adapters, _vifs(app, connected)),
        image=(root.image if root is not None else None) or ImageConfig(),
        user_data=app.user_data,
        has_secret=app.cipher is not None,
        netns="" if connected is None else connected.netns,
        dns=() if connected is None else connected.dns,
        hostname=app.id,
        devices=placed_devices(app, adapters),
        tpm=resources.tpm and mode not in _WITHOUT_TPM,
        vnc=resources.vnc,
    )


def mode_of(app: AppInstance, root: VolumeStatus | None) -> VirtualizationMode:
    """The wire's PV is also what an app has that says nothing: then its image says."""
    mode = app.resources.mode
    if root is None or mode is not VirtualizationMode.PV:
        return mode
    wanted = MODES.get(root.wants.virtualization, mode)
    return mode if wanted is VirtualizationMode.NOHYPER else wanted


def _boot(app: AppInstance, used: Sequence[_Used]) -> tuple[str, str, str]:
    """Kernel, RAM disk and arguments: the config's volumes, or else what its image brings."""
    resources = app.resources
    if resources.kernel or not used or used[0][1].boot is None:
        paths = {ref.volume: status.path for ref, status in used}
        # an id that is none of its volumes is no path either, which the hypervisor will say
        kernel = paths.get(VolumeId(resources.kernel), resources.kernel)
        ramdisk = paths.get(VolumeId(resources.ramdisk), resources.ramdisk)
        return kernel, ramdisk, resources.kernel_arguments
    boot = used[0][1].boot
    return boot.kernel, boot.initrd, resources.kernel_arguments or boot.cmdline


def _volumes(used: Sequence[_Used], lent: Container[str]) -> Iterator[DomainVolume]:
    """`lent`: ids of volumes that are no disks."""
    for ref, status in used:
        if ref.volume in lent:
            continue
        if status.path:
            yield DomainVolume(
                path=status.path,
                format=status.format,
                mount_dir=ref.mount_dir,
                readonly=status.readonly,
                layers=status.layers,
                packed=status.packed,
            )
        for disk in status.disks:
            yield DomainVolume(path=disk.path, format=disk.format, readonly=True)


def _vifs(app: AppInstance, network: AppNetworkStatus | None) -> tuple[DomainVif, ...]:
    if network is None or app.resources.mode is VirtualizationMode.NOHYPER:
        return ()
    return tuple(DomainVif(host_name=vif.host_name, mac=vif.mac) for vif in network.vifs)
