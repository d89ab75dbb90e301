"""Virtual functions of network cards: what is made, what is refused, and what apps can have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from edgevirt.host.fakes.devices import FakeDevices
from edgevirt.model.domain import Domain
from edgevirt.model.hardware import (
    AdapterGroup,
    Addresses,
    DomainDevice,
    Interface,
    IoType,
    IoUsage,
    MachineDevices,
    PciFunction,
    PhysicalIo,
)
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import ADAPTER_GROUP, CARD_STATUS, DOMAIN, MACHINE_DEVICES, PHYSICAL_IO
from edgevirt.model.sriov import COUNT_SETTING, FunctionSettings, VirtualFunction
from edgevirt.node.domains.adapters import AdapterPlanner, plan_groups
from edgevirt.node.domains.cards import CardReconciler
from edgevirt.node.domains.machine import tell_once
from edgevirt.node.domains.virtual_functions import Split, plan_split
from edgevirt.runtime import VirtualClock, engine
from edgevirt.runtime.memory import MemoryStore

CARD = PciFunction(
    address="0000:01:00.0", kind=0x020000, iommu_group="1", interfaces=("eth1",), most_functions=4
)
APP = AppId("a0000000-0000-4000-8000-000000000001")


def machine(count: int = 0, **changes: Any) -> MachineDevices:
    addresses = tuple(f"0000:01:10.{index}" for index in range(count))
    virtual = (
        PciFunction(address=one, iommu_group=str(10 + index), card=CARD.address)
        for index, one in enumerate(addresses)
    )
    card = replace(CARD, functions=addresses, **changes)
    eth1 = Interface(name="eth1", mac="52:54:00:00:00:01", pci=CARD.address)
    return MachineDevices(pci=(card, *virtual), interfaces=(eth1,), iommu=True)


def card(count: int = 2, **more: Any) -> PhysicalIo:
    fields: dict[str, Any] = {
        **{"label": "eth1", "type": IoType.ETHERNET_PF, "group": "nic"},
        **{"addresses": Addresses(interface="eth1"), "function_count": count, **more},
    }
    return PhysicalIo(**fields)


def groups(
    *model: PhysicalIo, machine: MachineDevices, troubles: Any = None
) -> dict[str, AdapterGroup]:
    return {group.name: group for group in plan_groups(model, machine, (), troubles)}


def test_a_card_without_functions_is_to_have_them() -> None:
    assert plan_split(card(2), machine(), {}) == Split(CARD.address, make=2)
    assert plan_split(card(2), machine(2), {}) == Split(CARD.address)


def test_a_card_of_which_none_are_wanted_is_left_alone() -> None:
    assert plan_split(card(0), machine(2), {}) == Split()
    ethernet = card(0, type=IoType.ETHERNET)
    assert plan_split(ethernet, machine(), {}) == Split()


def test_eves_setting_counts_like_its_list() -> None:
    setting = card(0, settings=((COUNT_SETTING, "3"),))
    assert plan_split(setting, machine(), {}).make == 3
    both = card(3, settings=((COUNT_SETTING, "3"),))
    assert plan_split(both, machine(), {}).make == 3


WHAT = "cannot make virtual functions of eth1"


@pytest.mark.parametrize(
    ("device", "found", "why"),
    [
        (card(8), machine(), "cannot make 8 virtual functions of eth1: it has 4 at most"),
        (
            card(2),
            machine(most_functions=0),
            "cannot make 2 virtual functions of eth1: it has no SR-IOV, or that is switched off in"
            " the firmware",
        ),
        (
            card(2, addresses=Addresses(interface="eth7")),
            machine(),
            "cannot make 2 virtual functions of eth1: eth7 is not there, or no PCI device",
        ),
        (card(2, type=IoType.ETHERNET), machine(), f"{WHAT}: only of an Ethernet PF, which it is"
         " not"),
        (card(256), machine(), f"{WHAT}: 256 are more than 255"),
        (card(0, settings=((COUNT_SETTING, "many"),)), machine(), f"{WHAT}: 'many' is no number of"
         " them"),
        (card(2, settings=((COUNT_SETTING, "3"),)), machine(), f"{WHAT}: the model says 2, and 3"
         " too"),
        (card(2, functions=(FunctionSettings(index=2, vlan=5),)), machine(), f"{WHAT}: the model"
         " sets number 2, and wants 2"),
        (card(2, functions=(FunctionSettings(vlan=4095),)), machine(), f"{WHAT}: of number 0 VLAN"
         " 4095 is not within 1 to 4094"),
        (card(2, functions=(FunctionSettings(mac="01:00:5e:00:00:01"),)), machine(), f"{WHAT}: of"
         " number 0 '01:00:5e:00:00:01' is no MAC address for it, such as 02:16:3e:00:00:01"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_said(device: PhysicalIo, found: MachineDevices, why: str) -> None:
    assert plan_split(device, found, {}) == Split(why=why)


def test_functions_are_not_taken_from_under_an_app() -> None:
    split = plan_split(card(4), machine(2), {"0000:01:10.1": 'app "web"'})
    assert split == Split(
        why='cannot make 4 virtual functions of eth1: it has 2, and eth1vf1 is used by app "web"'
    )
    whole = plan_split(card(4), machine(), {CARD.address: 'app "web"'})
    assert whole.why.endswith('it is used by app "web"')


def test_functions_that_a_machine_of_before_still_drives_are_not_taken_either() -> None:
    found = machine(2)
    held = replace(found.pci[1], driver="vfio-pci")
    split = plan_split(card(4), replace(found, pci=(found.pci[0], held, found.pci[2])), {})
    assert split.why.endswith("eth1vf0 is used by a virtual machine")


# -- what apps can have --


def test_each_function_is_an_adapter_by_the_name_that_eve_gives_it() -> None:
    found = groups(card(2), machine=machine(2))
    assert sorted(found) == ["nic", "nicvf0", "nicvf1"]
    first, second = found["nicvf0"], found["nicvf1"]
    assert (first.why_not, first.why_no_machine, first.members[0].absent) == ("", "", "")
    assert (second.members[0].label, second.members[0].addresses.pci) == ("eth1vf1", "0000:01:10.1")
    assert second.members[0].function == VirtualFunction(card=CARD.address, index=1)
    assert first.why_no_container == ""


def test_the_card_itself_is_nobodys_then() -> None:
    found = groups(card(2), machine=machine(2))["nic"]
    assert (found.node, found.why_not) == (True, "apps can have eth1vf0 to eth1vf1 of it")
    assert groups(card(0), machine=machine())["nic"].why_not == ""


def test_functions_of_a_port_of_the_node_are_for_apps() -> None:
    port = card(1, port="eth1", usage=IoUsage.MANAGEMENT_ONLY, group="")
    found = groups(port, machine=machine(1))
    assert found["/eth1"].node
    assert found["eth1vf0"].why_not == ""


def test_what_the_machine_cannot_keep_apart_is_not_given() -> None:
    found = machine(2)
    pci = tuple(replace(one, iommu_group="1") for one in found.pci)
    why = groups(card(2), machine=replace(found, pci=pci))["nicvf0"].why_no_machine
    assert why == "it cannot be kept apart from 0000:01:00.0, which is not in its group"


def test_a_function_that_is_not_made_says_why() -> None:
    assert groups(card(2), machine=machine())["nicvf0"].members[0].absent == (
        "eth1 has no virtual function 0 yet"
    )
    why = "cannot make 8 virtual functions of eth1: it has 4 at most"
    found = groups(card(8), machine=machine(), troubles={"eth1": why})
    assert (found["nic"].trouble, found["nicvf7"].members[0].absent) == (why, why)


def test_the_model_can_name_a_function_and_put_it_into_a_group_of_its_own() -> None:
    def named(name: str) -> PhysicalIo:
        return PhysicalIo(
            label=name, type=IoType.ETHERNET_VF, group="mine", addresses=Addresses(interface=name)
        )

    found = groups(card(2), named("eth1vf1"), machine=machine(2))
    assert sorted(found) == ["mine", "nic", "nicvf0"]
    assert found["mine"].members[0].addresses.pci == "0000:01:10.1"
    absent = groups(card(2), named("eth1vf3"), machine=machine(2))["mine"].members[0].absent
    assert absent == "eth1 has eth1vf0 to eth1vf1"
    by_address = PhysicalIo(
        label="lan", type=IoType.ETHERNET_VF, group="g", addresses=Addresses(pci="0000:01:10.0")
    )
    [member] = groups(by_address, machine=machine(1))["g"].members
    assert member.function == VirtualFunction(card=CARD.address, index=0)
    wrong = replace(by_address, addresses=Addresses(pci=CARD.address))
    [member] = groups(wrong, machine=machine(1))["g"].members
    assert member.absent == "PCI device 0000:01:00.0 is no virtual function"


def test_what_the_model_says_of_a_function_goes_with_it() -> None:
    said = (FunctionSettings(index=1, mac="02:16:3E:00:00:01", vlan=7),)
    found = groups(card(2, functions=said), machine=machine(2))
    assert found["nicvf1"].members[0].function == VirtualFunction(
        card=CARD.address, index=1, mac="02:16:3e:00:00:01", vlan=7
    )


# -- making them --


async def test_they_are_made_once_and_not_while_an_app_has_one() -> None:
    store, clock, devices = MemoryStore(), VirtualClock(), FakeDevices(machine())
    await store.put(PHYSICAL_IO, "eth1", card(2))
    await tell_once(store, devices)
    running = asyncio.create_task(
        engine.run(store, clock, [AdapterPlanner(), CardReconciler(devices)])
    )

    async def settle() -> str:
        for _ in range(50):  # the effect has a thread of its own
            await clock.settle()
            await asyncio.sleep(0.002)
            await tell_once(store, devices)
        await clock.settle()
        found = await store.get(CARD_STATUS, "eth1")
        return "" if found is None else found.value.why

    try:
        assert await settle() == ""
        first = await store.get(ADAPTER_GROUP, "nicvf0")
        assert first is not None
        at = first.value.members[0].addresses
        assert at.pci in (await devices.measure()).pci[0].functions
        device = DomainDevice(label="eth1vf0", type=IoType.ETHERNET_VF, addresses=at)
        web = Domain(
            app=APP, name="n", display_name="web", activate=True, devices=(device,)
        )  # fmt: skip
        await store.put(DOMAIN, APP, web)
        await store.put(PHYSICAL_IO, "eth1", card(3))
        assert await settle() == (
            'cannot make 3 virtual functions of eth1: it has 2, and eth1vf0 is used by app "web"'
        )
        await store.put(DOMAIN, APP, replace(web, activate=False))
        assert await settle() == ""
        known = await store.get(MACHINE_DEVICES, "node")
        assert known is not None
        assert len(known.value.pci[0].functions) == 3
        await store.delete(PHYSICAL_IO, "eth1")
        await settle()
        assert await store.get(CARD_STATUS, "eth1") is None
        assert len((await devices.measure()).pci[0].functions) == 3, "left as they are"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
