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
from edgevirt.model.sriov import VirtualFunction
from tests.unit.host.devices.test_sysfs import NIC, XHCI, Tree

CARD, FIRST, SECOND = "0000:02:00.0", "0000:02:10.0", "0000:02:10.1"


@pytest.fixture(params=["tree", "fake"])
def devices(request: pytest.FixtureRequest, tmp_path: Path) -> Devices:
    """A NIC that can be kept apart, a USB controller that cannot, and a card with one virtual
    function."""
    if request.param == "fake":
        functions = (
            PciFunction(address=XHCI, kind=0x0C0330),
            PciFunction(address=NIC, kind=0x020000, iommu_group="7", driver="vfio-pci"),
            PciFunction(address=CARD, most_functions=4, functions=(FIRST, SECOND)),
            PciFunction(address=FIRST, iommu_group="9", driver="vfio-pci", card=CARD),
            PciFunction(address=SECOND, iommu_group="10", card=CARD),
        )
        return FakeDevices(MachineDevices(pci=functions, iommu=True))
    tree = Tree(tmp_path)
    tree.pci(NIC, "0x020000", "vfio-pci", "7")
    tree.pci(XHCI, "0x0c0330")
    card = tree.pci(CARD, "0x020000")
    tree.write(card, sriov_totalvfs="4", sriov_numvfs="2", sriov_drivers_autoprobe="0")
    (card / "virtfn0").symlink_to(tree.pci(FIRST, "0x020000", "vfio-pci", "9"))
    (card / "virtfn1").symlink_to(tree.pci(SECOND, "0x020000", "", "10"))
    for name in ("virtfn0", "virtfn1"):
        (card / name / "physfn").symlink_to(card)
    return MachineDevicesAdapter(tmp_path)


async def test_the_machine_is_measured(devices: Devices) -> None:
    found = await devices.measure()
    assert [(one.address, one.iommu_group) for one in found.pci] == [
        (XHCI, ""), (NIC, "7"), (CARD, ""), (FIRST, "9"), (SECOND, "10")
    ]  # fmt: skip
    card, first, _ = found.pci[2:]
    assert (card.most_functions, card.functions, first.card) == (4, (FIRST, SECOND), CARD)
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


def test_a_function_that_somebody_drives_by_itself_is_not_driven_by_the_kernel(
    devices: Devices,
) -> None:
    devices.take_pci(FIRST)
    with pytest.raises(DeviceError, match=r"function 0000:02:10\.0 driven: it is in use"):
        devices.drive_function(FIRST)
    devices.free_function(FIRST)
    assert devices.take_pci(FIRST) == "/dev/vfio/9"


def test_a_function_that_cannot_be_driven_is_said(devices: Devices) -> None:
    with pytest.raises(DeviceError, match="it is not there"):
        devices.drive_function("0000:09:00.0")
    with pytest.raises(DeviceError, match="this kernel has no driver for it"):
        devices.drive_function(SECOND)
    devices.free_function("0000:09:00.0")


def test_giving_back_what_is_not_there_is_no_error(devices: Devices) -> None:
    devices.give_back_pci("0000:09:00.0")


def test_a_card_is_not_made_anew_while_one_of_its_functions_is_taken(devices: Devices) -> None:
    devices.take_pci(FIRST)
    devices.split_pci(CARD, 2)  # which it has
    what = r"cannot make 3 virtual functions of PCI device 0000:02:00\.0: 0000:02:10\.0 is in use"
    with pytest.raises(DeviceError, match=what):
        devices.split_pci(CARD, 3)


@pytest.mark.parametrize(
    ("address", "count", "why"),
    [(CARD, 5, "it has 4 at most"), (NIC, 1, "it has none"), (XHCI[:-1] + "7", 1, "not there")],
)
def test_functions_that_cannot_be_made_are_said(
    devices: Devices, address: str, count: int, why: str
) -> None:
    with pytest.raises(DeviceError, match=why):
        devices.split_pci(address, count)


def test_functions_of_what_has_no_interface_cannot_be_set(devices: Devices) -> None:
    with pytest.raises(DeviceError, match=r"of PCI device \S+: no interface"):
        devices.set_function(VirtualFunction(card=CARD, index=0, vlan=7))
    with pytest.raises(DeviceError, match=r"of PCI device \S+: no interface"):
        devices.read_function(CARD, 0)


async def test_waiting_for_a_change_comes_to_an_end(devices: Devices) -> None:
    with contextlib.closing(devices):
        async with asyncio.timeout(30):
            await devices.await_change(0.01)
