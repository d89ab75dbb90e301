"""What an app's image declares it needs, held against what the app has. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from edgevirt.model.app import AppInstance
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import VirtualizationMode
from edgevirt.model.eci import Wants
from edgevirt.model.hardware import IoType
from edgevirt.model.volume import VolumeStatus, volume_key
from edgevirt.node.apps.domain_spec import MODES, mode_of
from edgevirt.node.apps.gates import Wait

_TPM: Final = "tpm"
_KINDS: Final = {
    _TPM: frozenset[int](),
    "serial": frozenset({IoType.COM}),
    "usb": frozenset({IoType.USB, IoType.USB_DEVICE, IoType.USB_CONTROLLER}),
    "ethernet": frozenset({IoType.ETHERNET, IoType.ETHERNET_PF, IoType.ETHERNET_VF}),
    "can": frozenset({IoType.CAN, IoType.VCAN, IoType.LCAN}),
    "nvme": frozenset({IoType.NVME}),
    "audio": frozenset({IoType.AUDIO}),
    "hdmi": frozenset({IoType.HDMI}),
}
"""Kinds of devices, and what an adapter of such a kind may be to the controller."""


def check_wants(app: AppInstance, volumes: Mapping[str, VolumeStatus], now: float) -> Wait | None:
    """What its image declares it needs, an app has, or more. All its volumes are there."""
    for why in _lacks(app, volumes):
        return Wait(
            SwState.INSTALLED, "cannot run here", Trouble(why=f"cannot run: {why}", since=now)
        )
    return None


def _lacks(app: AppInstance, volumes: Mapping[str, VolumeStatus]) -> Iterator[str]:
    if not app.volumes:
        return
    root = volumes[volume_key(app.volumes[0].volume, app.volumes[0].generation)]
    wants, resources = root.wants, app.resources
    bare = resources.mode is VirtualizationMode.NOHYPER
    if bare and root.format != ContentFormat.CONTAINER:
        yield "its image is a machine, and the app asks for no virtualization"
    if wants.virtualization in MODES and mode_of(app, root) is not MODES[wants.virtualization]:
        yield (
            f"its image wants virtualization {wants.virtualization}, "
            f"the app asks for {resources.mode.name}"
        )
    if resources.vcpus < wants.cpus:
        yield f"its image wants {wants.cpus} CPUs, the app has {resources.vcpus}"
    if resources.memory_kib * 1024 < wants.memory:
        has = resources.memory_kib * 1024
        yield f"its image wants {wants.memory} bytes of memory, the app has {has}"
    lacking = ", ".join(_devices_lacking(app, wants))
    if lacking:
        yield f"its image wants {', '.join(wants.devices)}; the app has no {lacking}"


def _devices_lacking(app: AppInstance, wants: Wants) -> Iterator[str]:
    """A kind of device that is not known here is content with any."""
    left = [adapter.type for adapter in app.adapters]
    devices = [(device, device.partition(":")[0].lower()) for device in wants.devices]
    for device, kind in sorted(devices, key=lambda one: one[1] not in _KINDS):
        if kind == _TPM:
            if not app.resources.tpm:
                yield device
            continue
        fits = _KINDS.get(kind)
        found = next((one for one in left if fits is None or one in fits), None)
        if found is None:
            yield device
        else:
            left.remove(found)
