"""Two apps and one device: who has it, who waits for whom, and what is said."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from edgevirt.model.app import AppInstance, Resources
from edgevirt.model.base import Severity, SwState
from edgevirt.model.domain import HostCapacity, VirtualizationMode
from edgevirt.model.hardware import (
    Adapter,
    AdapterGroup,
    AdapterMember,
    Addresses,
    IoType,
    MachineDevices,
    PhysicalIo,
    as_used,
)
from edgevirt.model.ids import AppId, VolumeId
from edgevirt.model.kinds import (
    ADAPTER_GROUP,
    ADAPTER_USE,
    APP_INSTANCE_STATUS,
    DOMAIN,
    DOMAIN_STATUS,
    HOST_CAPACITY,
    MACHINE_DEVICES,
    PHYSICAL_IO,
)
from edgevirt.model.sriov import FunctionSettings, VirtualFunction
from edgevirt.wire.convert.hardware import fill_adapters
from edgevirt.wire.messages.info import ZInfoDevice
from tests.worlds.apps import APP, GIB_KIB, OTHER, Node, app, why

COM = AdapterGroup(
    name="com",
    type=IoType.COM,
    members=(
        AdapterMember(
            label="COM2", type=IoType.COM, addresses=Addresses(serial="/dev/ttyS1")
        ),
    ),
)  # fmt: skip
USB = AdapterGroup(
    name="stick",
    type=IoType.USB_DEVICE,
    parent="bus",
    members=(
        AdapterMember(
            label="stick", type=IoType.USB_DEVICE, addresses=Addresses(usb_port="1:2"),
            absent="no USB device at 1:2 is plugged in",
        ),
    ),
)  # fmt: skip
BUS = AdapterGroup(
    name="bus",
    type=IoType.USB_CONTROLLER,
    members=(
        AdapterMember(
            label="bus", type=IoType.USB_CONTROLLER, addresses=Addresses(pci="0000:00:14.0")
        ),
    ),
)  # fmt: skip


CARD = "0000:01:00.0"
VF = AdapterGroup(
    name="nicvf0",
    type=IoType.ETHERNET_VF,
    members=(
        AdapterMember(
            label="eth1vf0", type=IoType.ETHERNET_VF, addresses=Addresses(pci="0000:01:10.0"),
            function=VirtualFunction(card=CARD, index=0, mac="02:00:00:00:00:01", vlan=3),
        ),
    ),
)  # fmt: skip


def node(*groups: AdapterGroup) -> Node:
    made = Node()
    made.put(MACHINE_DEVICES, "node", MachineDevices())
    for group in groups or (COM,):
        made.put(ADAPTER_GROUP, group.name, group)
    made.put(
        HOST_CAPACITY,
        "node",
        HostCapacity(memory_kib=4 * GIB_KIB, cpus=2, modes=tuple(VirtualizationMode)),
    )
    made.volume_is(SwState.CREATED_VOLUME)
    made.volume_is(SwState.CREATED_VOLUME, volume=VolumeId("other"))
    return made


def using(adapter: str = "com", **more: Any) -> AppInstance:
    return app(interfaces=(), adapters=(Adapter(name=adapter),), **more)


def second(adapter: str = "com", **more: Any) -> AppInstance:
    volumes = (replace(app().volumes[0], volume=VolumeId("other")),)
    return using(adapter, id=OTHER, name="robot", volumes=volumes, **more)


def start(made: Node, *apps: AppInstance) -> None:
    made.want(*apps)
    made.plan()
    made.plan()


def user(made: Node, group: str = "com") -> AppId | None:
    use = made.last.get(ADAPTER_USE, group)
    return None if use is None else use.app


def test_an_app_gets_the_devices_of_its_group() -> None:
    made = node()
    start(made, using())
    device = made.domain().devices[0]
    assert (device.label, device.addresses.serial) == ("COM2", "/dev/ttyS1")
    assert user(made) == APP


def virtual(name: str = "nicvf0", **said: Any) -> AppInstance:
    resources = Resources(memory_kib=GIB_KIB, vcpus=1, mode=VirtualizationMode.HVM)
    function = FunctionSettings(**said) if said else None
    adapter = Adapter(name=name, type=IoType.ETHERNET_VF, function=function)
    return app(interfaces=(), adapters=(adapter,), resources=resources)


def test_a_virtual_function_is_set_as_the_app_wants_it_else_as_the_model_does() -> None:
    for said, wanted in (
        ({}, ("02:00:00:00:00:01", 3)),
        ({"mac": "02:00:00:00:00:AA"}, ("02:00:00:00:00:aa", 3)),
        ({"vlan": 7}, ("02:00:00:00:00:01", 7)),
    ):
        made = node(VF)
        start(made, virtual(**said))
        [device] = made.domain().devices
        assert device.function is not None
        assert (device.addresses.pci, device.function.card) == ("0000:01:10.0", CARD)
        assert (device.function.mac, device.function.vlan) == wanted
        told = ZInfoDevice()
        use = made.last.get(ADAPTER_USE, "nicvf0")
        fill_adapters([as_used(VF, use)], {"nicvf0": APP}, told)
        [at] = told.assignableAdapters[0].ioAddressList
        assert (at.macAddress, at.vf_info.index, at.vf_info.vlan_id) == (wanted[0], 0, wanted[1])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (virtual(mac="here"), "adapter nicvf0: 'here' is no MAC address for it"),
        (virtual(mac="ff:ff:ff:ff:ff:ff"), "is no MAC address for it"),
        (virtual(vlan=4095), "adapter nicvf0: VLAN 4095 is not within 1 to 4094"),
        (virtual(index=2), "adapter nicvf0: it is virtual function 0, not 2"),
        (virtual("com", vlan=7), "a MAC address or VLAN is of one virtual function"),
        (virtual("eth1vf8"), "unknown adapter eth1vf8: eth1 has eth1vf0"),
    ],
)
def test_what_a_virtual_function_cannot_be_is_said(wanted: AppInstance, said: str) -> None:
    made = node(VF, COM)
    start(made, wanted)
    status = made.last.get(APP_INSTANCE_STATUS, APP)
    assert status is not None
    assert said in why(status)


def test_a_group_is_found_by_the_name_of_a_device_in_it() -> None:
    made = node()
    start(made, using("COM2"))
    assert made.domain().devices[0].label == "COM2"
    assert user(made) == APP


def test_of_two_apps_one_has_the_device_and_the_other_is_told_who() -> None:
    made = node()
    start(made, using(), second())
    status = made.last.get(APP_INSTANCE_STATUS, OTHER)
    assert status is not None
    assert status.state == SwState.INSTALLED
    assert why(status) == 'cannot start: adapter group com is used by app "web"'
    assert made.last.get(DOMAIN, OTHER) is None
    assert user(made) == APP


def test_the_device_goes_on_to_the_next_app_when_the_first_has_ended() -> None:
    made = node()
    start(made, using(), second())
    made.domain_is(SwState.RUNNING)
    made.want(using(activate=False), second())
    waiting = made.plan_any(OTHER)
    assert waiting is not None
    assert waiting.trouble is not None
    assert why(waiting) == (
        'cannot start: adapter group com is used by app "web" (which is halting)'
    )
    assert waiting.trouble.severity is Severity.NOTICE
    assert user(made) == APP
    made.domain_is(SwState.HALTED)
    made.plan()
    assert user(made) == OTHER
    assert made.domain(OTHER).devices[0].label == "COM2"


def test_an_app_that_is_removed_has_its_device_until_its_domain_is_gone() -> None:
    made = node()
    start(made, using(), second())
    made.domain_is(SwState.RUNNING)
    made.want(second())
    for _ in range(2):
        waiting = made.plan_any(OTHER)
        assert waiting is not None
        assert "which is halting" in why(waiting)
        assert user(made) == APP
    made.drop(DOMAIN_STATUS, APP)
    made.plan_any(OTHER)
    assert user(made) == OTHER


def test_an_unknown_adapter_is_refused_but_one_that_is_being_measured_is_awaited() -> None:
    made = node()
    start(made, using("gpu"))
    status = made.plan()
    assert why(status) == "cannot start: unknown adapter gpu"
    made.put(PHYSICAL_IO, "gpu", PhysicalIo(label="gpu", type=255, group="gpu"))
    status = made.plan()
    assert (why(status), status.what) == ("", "waiting to know adapter gpu")


def test_before_the_machine_is_measured_nothing_is_refused() -> None:
    made = node()
    made.drop(MACHINE_DEVICES, "node")
    start(made, using("gpu"))
    status = made.plan()
    assert (why(status), status.what) == ("", "waiting to know this machine's devices")


@pytest.mark.parametrize(
    ("group", "mode", "said"),
    [
        (replace(COM, why_not="it is a port of the node itself, eth0"), VirtualizationMode.NOHYPER,
         "is not assignable: it is a port of the node itself, eth0"),
        (replace(COM, why_no_container="only X"), VirtualizationMode.NOHYPER, "only X"),
        (replace(COM, why_no_machine="no I/O virtualization (IOMMU) on this machine"),
         VirtualizationMode.FML, "no I/O virtualization (IOMMU) on this machine"),
    ],
    ids=["the node's", "no container's", "no machine's"],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_with_the_reason(
    group: AdapterGroup, mode: VirtualizationMode, said: str
) -> None:
    made = node(group)
    start(made, using(resources=Resources(memory_kib=65_536, mode=mode)))
    assert said in why(made.plan())
    assert user(made) is None


def test_a_machine_starts_without_a_stick_and_a_container_waits_for_it() -> None:
    made = node(USB, BUS)
    start(made, using("stick"))
    status = made.plan()
    assert why(status) == "cannot start: adapter stick: no USB device at 1:2 is plugged in"
    made = node(USB, BUS)
    start(made, using("stick", resources=Resources(memory_kib=65_536, mode=VirtualizationMode.PV)))
    assert made.domain().devices[0].addresses.usb_port == "1:2"


def test_a_controller_and_what_is_plugged_into_it_are_not_given_to_two_apps() -> None:
    machine = Resources(memory_kib=65_536, mode=VirtualizationMode.PV)
    made = node(USB, BUS)
    start(made, using("stick", resources=machine), second("bus", resources=machine))
    status = made.last.get(APP_INSTANCE_STATUS, OTHER)
    assert status is not None
    assert why(status) == 'cannot start: adapter group stick is used by app "web"'


def test_a_restart_keeps_the_device_though_the_node_does_not_see_it_meanwhile() -> None:
    made = node()
    start(made, using())
    made.domain_is(SwState.RUNNING)
    gone = replace(COM.members[0], absent="no serial port is /dev/ttyS1")
    made.put(ADAPTER_GROUP, "com", replace(COM, members=(gone,)))
    made.want(using(restart_counter=1))
    made.plan()
    assert made.domain().generation == 2
    assert made.domain().devices[0].label == "COM2"


def test_only_a_virtual_machine_has_a_tpm_of_its_own() -> None:
    for mode, has in ((VirtualizationMode.FML, True), (VirtualizationMode.NOHYPER, False),
                      (VirtualizationMode.LEGACY, False)):  # fmt: skip
        made = node()
        resources = Resources(memory_kib=65_536, mode=mode, tpm=True)
        start(made, app(interfaces=(), resources=resources))
        assert made.domain().tpm is has
