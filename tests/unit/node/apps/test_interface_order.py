"""The order in which a virtual machine finds its network interfaces, devices among them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, Resources
from edgevirt.model.base import SwState
from edgevirt.model.domain import HostCapacity, VirtualizationMode
from edgevirt.model.hardware import (
    Adapter,
    AdapterGroup,
    AdapterMember,
    Addresses,
    IoType,
    MachineDevices,
)
from edgevirt.model.kinds import ADAPTER_GROUP, HOST_CAPACITY, MACHINE_DEVICES
from edgevirt.model.network import AppInterface, NetworkInstanceState
from tests.worlds.apps import GIB_KIB, NETWORK, Node, app, why

MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
CARD = AdapterGroup(
    name="card",
    type=IoType.ETHERNET,
    members=(
        AdapterMember(label="nic", type=IoType.ETHERNET, addresses=Addresses(pci="0000:01:00.0")),
        AdapterMember(label="gpu", type=IoType.HDMI, addresses=Addresses(pci="0000:01:00.1")),
    ),
)


def machine(first: int, second: int, card: int, *, ordered: bool = True) -> AppInstance:
    """Of two interfaces and a card, in these orders."""
    interfaces = tuple(
        AppInterface(name=name, network=NETWORK, mac=mac, order=order)
        for name, mac, order in zip(("a", "b"), MACS, (first, second), strict=True)
    )
    resources = Resources(memory_kib=65_536, mode=VirtualizationMode.HVM, ordered=ordered)
    adapters = (Adapter(name="card", order=card),)
    return app(interfaces=interfaces, adapters=adapters, resources=resources)


def node() -> Node:
    made = Node()
    made.put(MACHINE_DEVICES, "node", MachineDevices())
    made.put(ADAPTER_GROUP, CARD.name, CARD)
    capacity = HostCapacity(memory_kib=4 * GIB_KIB, cpus=2, modes=tuple(VirtualizationMode))
    made.put(HOST_CAPACITY, "node", capacity)
    return made


def found(made: Node) -> tuple[list[tuple[str, int]], dict[str, int]]:
    domain = made.domain()
    vifs = [(vif.mac, vif.place) for vif in domain.vifs]
    return vifs, {device.label: device.place for device in domain.devices}


def test_interfaces_and_network_devices_have_the_places_that_the_app_says() -> None:
    made = node()
    made.run(machine(30, 10, 20))
    assert found(made) == ([(MACS[1], 1), (MACS[0], 3)], {"nic": 2, "gpu": 0})


def test_places_that_nobody_enforces_mean_nothing() -> None:
    made = node()
    made.run(machine(30, 10, 20, ordered=False))
    assert found(made) == ([(MACS[0], 0), (MACS[1], 0)], {"nic": 0, "gpu": 0})


@pytest.mark.parametrize(
    ("orders", "said"),
    [((7, 7, 1), "interface b and interface a both"), ((1, 0, 0), "adapter card and interface b")],
)
def test_two_with_one_place_are_refused_before_anything_starts(
    orders: tuple[int, int, int], said: str
) -> None:
    made = node()
    made.want(machine(*orders))
    made.volume_is(SwState.CREATED_VOLUME)
    made.network_instance_is(NetworkInstanceState.ONLINE)
    status = made.plan()
    assert status.state is SwState.INSTALLED
    assert said in why(status)


def test_a_device_that_is_no_network_interface_needs_no_place() -> None:
    made = node()
    members = (replace(CARD.members[1], label="left"), CARD.members[1])
    made.put(ADAPTER_GROUP, "card", replace(CARD, type=IoType.HDMI, members=members))
    made.run(machine(1, 0, 0))
    vifs, devices = found(made)
    assert (vifs, set(devices.values())) == ([(MACS[1], 1), (MACS[0], 2)], {0})


def test_a_changed_order_of_interfaces_waits_for_a_restart_that_keeps_the_network() -> None:
    made = node()
    made.run(machine(1, 2, 3))
    other = machine(2, 1, 3)
    made.want(other)
    assert made.plan().what == "running; changes wait for a restart"
    made.want(replace(other, restart_counter=1))
    made.plan()
    assert made.domain().activate
    assert found(made)[0] == [(MACS[1], 1), (MACS[0], 2)]
