"""An app whose image is a machine: what it starts with, and what it must have to run."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, Resources, VolumeRef
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import Domain, HostCapacity, VirtualizationMode
from edgevirt.model.eci import Attached, Boot, Wants
from edgevirt.model.hardware import Adapter, IoType
from edgevirt.model.ids import AppId, VolumeId
from edgevirt.model.kinds import HOST_CAPACITY
from tests.worlds.apps import APP, GIB_KIB, VOLUME, Node, why

DATA = VolumeId("b0000000-0000-4000-8000-000000000009")
BOOT = Boot(kernel="/blobs/k", initrd="/blobs/i", cmdline="console=ttyS0")


def machine(mode: VirtualizationMode = VirtualizationMode.PV, **fields: Any) -> AppInstance:
    given = {"memory_kib": 65_536, "vcpus": 2, "mode": mode, **fields}
    return AppInstance(
        id=AppId(APP),
        name="gateway",
        version="1",
        resources=Resources(**given),
        volumes=(VolumeRef(volume=VOLUME),),
    )


def given(*types: IoType) -> AppInstance:
    """With a device of each of these types."""
    adapters = tuple(Adapter(name=f"g{i}", type=one) for i, one in enumerate(types))
    return replace(machine(tpm=False), adapters=adapters)


def node_with(app: AppInstance, **root: Any) -> Node:
    node = Node()
    node.put(
        HOST_CAPACITY,
        "node",
        HostCapacity(memory_kib=4 * GIB_KIB, cpus=2, modes=tuple(VirtualizationMode)),
    )
    node.want(app)
    given = {"format": ContentFormat.QCOW2, "layers": (), "image": None, **root}
    node.volume_is(SwState.CREATED_VOLUME, **given)
    return node


def domain_of(app: AppInstance, **root: Any) -> Domain:
    node = node_with(app, **root)
    status = node.plan()
    assert why(status) == ""
    return node.domain()


def test_an_image_that_brings_a_kernel_is_started_with_it() -> None:
    domain = domain_of(machine(), boot=BOOT, format=ContentFormat.UNKNOWN, path="")
    assert (domain.kernel, domain.ramdisk) == ("/blobs/k", "/blobs/i")
    assert domain.kernel_arguments == "console=ttyS0"
    assert domain.volumes == ()


def test_the_app_s_own_command_line_wins_over_the_image_s() -> None:
    assert domain_of(machine(kernel_arguments="quiet"), boot=BOOT).kernel_arguments == "quiet"


def test_further_disks_of_an_image_follow_its_root_and_are_read_only() -> None:
    disk = Attached(path="/blobs/d", format=ContentFormat.ISO)
    domain = domain_of(machine(), disks=(disk,))
    assert [(volume.path, volume.readonly) for volume in domain.volumes] == [
        (f"/volumes/{VOLUME}#0", False),
        ("/blobs/d", True),
    ]


def test_an_app_that_says_nothing_gets_the_virtualization_that_its_image_wants() -> None:
    domain = domain_of(machine(), wants=Wants(virtualization="FML"))
    assert domain.mode is VirtualizationMode.FML


def test_an_app_that_has_what_its_image_wants_runs() -> None:
    wants = Wants(cpus=2, memory=64 << 20, virtualization="HVM")
    assert domain_of(machine(VirtualizationMode.HVM), wants=wants).mode is VirtualizationMode.HVM


@pytest.mark.parametrize(
    ("app", "wants", "lack"),
    [
        (machine(), Wants(cpus=4), "its image wants 4 CPUs, the app has 2"),
        (
            machine(),
            Wants(memory=1 << 30),
            "wants 1073741824 bytes of memory, the app has 67108864",
        ),
        (machine(), Wants(devices=("usb:camera",)), "wants usb:camera; the app has no usb:camera"),
        (
            given(IoType.COM, IoType.COM),
            Wants(devices=("serial", "usb:camera")),
            "wants serial, usb:camera; the app has no usb:camera",
        ),
        (given(IoType.COM), Wants(devices=("serial", "laser")), "the app has no laser"),
        (machine(), Wants(devices=("tpm",)), "the app has no tpm"),
        (
            machine(VirtualizationMode.LEGACY),
            Wants(virtualization="FML"),
            "wants virtualization FML, the app asks for LEGACY",
        ),
        (machine(), Wants(virtualization="None"), "None, the app asks for PV"),
        (machine(VirtualizationMode.NOHYPER), Wants(), "its image is a machine"),
    ],
)
def test_an_app_that_lacks_what_its_image_wants_is_refused_in_words(
    app: AppInstance, wants: Wants, lack: str
) -> None:
    status = node_with(app, wants=wants).plan()
    assert status.state == SwState.INSTALLED
    assert lack in why(status)


def test_devices_of_its_kinds_are_what_an_image_wants_in_any_order() -> None:
    wanted = Wants(devices=("laser", "usb:camera", "serial"))
    app = given(IoType.USB_DEVICE, IoType.OTHER, IoType.COM)
    assert "wants" not in why(node_with(app, wants=wanted).plan())
