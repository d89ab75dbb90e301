"""Devices: one set of rules for the machine's and for the fake's.

The real ones are on a tree that looks like /sys; a kernel that obeys is in tests/e2e/os.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from edgevirt.host.devices.machine import MachineDevicesAdapter
from edgevirt.host.devices.protocol import DeviceError, Devices
from edgevirt.host.fakes.devices import FakeDevices
from edgevirt.model.hardware import MachineDevices, PciFunction
from tests.unit.host.devices.test_sysfs import NIC, XHCI, Tree


@pytest.fixture(params=["tree", "fake"])
def devices(request: pytest.FixtureRequest, tmp_path: Path) -> Devices:
    """A NIC that can be kept apart, and a USB controller that cannot."""
    if request.param == "fake":
        functions = (
            PciFunction(address=XHCI, kind=0x0C0330),
            PciFunction(address=NIC, kind=0x020000, iommu_group="7", driver="vfio-pci"),
        )
        return FakeDevices(MachineDevices(pci=functions, iommu=True))
    tree = Tree(tmp_path)
    tree.pci(NIC, "0x020000", "vfio-pci", "7")
    tree.pci(XHCI, "0x0c0330")
    return MachineDevicesAdapter(tmp_path)


async def test_the_machine_is_measured(devices: Devices) -> None:
    found = await devices.measure()
    assert [(one.address, one.iommu_group) for one in found.pci] == [(XHCI, ""), (NIC, "7")]
    assert found.iommu


async def test_a_function_is_driven_by_its_groups_file_however_often_it_is_taken(
    devices: Devices,
) -> None:
    assert devices.take_pci(NIC) == devices.take_pci(NIC) == "/dev/vfio/7"
    [taken] = [one for one in (await devices.measure()).pci if one.address == NIC]
    assert taken.driver == "vfio-pci"


def test_what_cannot_be_taken_is_said(devices: Devices) -> None:
    with pytest.raises(DeviceError, match=r"cannot take PCI device \S+: it is not there"):
        devices.take_pci("0000:09:00.0")
    with pytest.raises(DeviceError, match=r"no I/O virtualization \(IOMMU\)"):
        devices.take_pci(XHCI)


def test_giving_back_what_is_not_there_is_no_error(devices: Devices) -> None:
    devices.give_back_pci("0000:09:00.0")


async def test_waiting_for_a_change_comes_to_an_end(devices: Devices) -> None:
    with contextlib.closing(devices):
        async with asyncio.timeout(30):
            await devices.await_change(0.01)
