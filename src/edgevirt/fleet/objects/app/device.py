"""Devices that an app has for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgevirt.fleet.objects.base.names import check_label
from edgevirt.fleet.objects.base.object import ApiStruct
from edgevirt.fleet.objects.base.problems import Problem, duplicate, invalid, required, unsupported
from edgevirt.fleet.objects.node.hardware_model import TYPES as ADAPTER_TYPES
from edgevirt.fleet.objects.node.hardware_model import VIRTUAL
from edgevirt.model.sriov import MOST_VLAN, is_mac

TPM: Final = "TPM"
TYPES: Final = (*ADAPTER_TYPES, TPM)
FOR_CONTAINERS: Final = frozenset(
    {
        "Serial",
        "USB",
        "USBDevice",
        "GPIO",
        "Ethernet",
        "EthernetVF",
        "WLAN",
        "WWAN",
        "CAN",
        "VCAN",
        "LCAN",
    }
    | {"Other"}
)
_MOST: Final = 32
_NO_LINES: Final = (
    "a virtual machine cannot have GPIO lines; a container with virtualization None can"
)


class AppDevice(ApiStruct, frozen=True, kw_only=True):
    """A device of the node that the app has for itself."""

    merge_keys = ("name",)

    name: str = ""
    """Its name within the app."""
    type: str = ""
    """`TPM`, a virtual one that is the app's own; else what it is in the node's HardwareModel:
    `GPIO`, `Serial`, `USBDevice`, `PCI`, `Ethernet`, `CAN` and so on."""
    adapter: str = ""
    """Group of the node's HardwareModel; of a virtual TPM none."""
    mac: str = ""
    """Of an `EthernetVF`: its MAC address, `02:16:3e:00:00:01`. Empty: what its driver chooses."""
    vlan: int = 0
    """Of an `EthernetVF`: the VLAN that it is in unawares, 1 to 4094. 0: none."""


def check_devices(devices: tuple[AppDevice, ...], *, bare: bool, legacy: bool) -> Iterator[Problem]:
    """`bare`: the app is a container on the node's kernel."""
    names: set[str] = set()
    adapters: set[str] = set()
    if len(devices) > _MOST:
        yield invalid("spec.devices", len(devices), f"must be at most {_MOST}")
        return
    for index, device in enumerate(devices):
        path = f"spec.devices[{index}]"
        yield from check_label(f"{path}.name", device.name)
        if device.name in names:
            yield duplicate(f"{path}.name", device.name)
        names.add(device.name)
        if device.adapter and device.adapter in adapters:
            yield duplicate(f"{path}.adapter", device.adapter)
        adapters.add(device.adapter)
        yield from _check_device(path, device, bare=bare, legacy=legacy)
        yield from _check_function(path, device)
    if sum(device.type == TPM for device in devices) > 1:
        yield invalid("spec.devices", TPM, "an app has one TPM at most")


def _check_device(path: str, device: AppDevice, *, bare: bool, legacy: bool) -> Iterator[Problem]:
    if not device.type:
        yield required(f"{path}.type")
    elif device.type not in TYPES:
        yield unsupported(f"{path}.type", device.type, TYPES)
    elif device.type == TPM:
        if device.adapter:
            yield invalid(f"{path}.adapter", device.adapter, "a virtual TPM is no part of the node")
        if bare or legacy:
            yield invalid(f"{path}.type", TPM, "of a virtual machine only, and no legacy one")
    else:
        if not device.adapter:
            yield required(f"{path}.adapter", "a group of the node's HardwareModel")
        if bare and device.type not in FOR_CONTAINERS:
            yield invalid(f"{path}.type", device.type, "of a virtual machine only")
        if not bare and device.type == "GPIO":
            yield invalid(f"{path}.type", device.type, _NO_LINES)


def _check_function(path: str, device: AppDevice) -> Iterator[Problem]:
    if device.type != VIRTUAL:
        for field, value in (("mac", device.mac), ("vlan", device.vlan)):
            if value:
                yield invalid(f"{path}.{field}", value, f"a device of type {VIRTUAL} has it")
        return
    if device.mac and not is_mac(device.mac):
        why = "must be one device's MAC address, like 02:16:3e:00:00:01"
        yield invalid(f"{path}.mac", device.mac, why)
    if not 0 <= device.vlan <= MOST_VLAN:
        yield invalid(f"{path}.vlan", device.vlan, f"must be 1 to {MOST_VLAN}")
