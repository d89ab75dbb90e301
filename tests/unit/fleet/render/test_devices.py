"""Devices from objects to a node's config, and what the node tells of them back to people."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from edgevirt.fleet import render
from edgevirt.fleet.objects.app.device import AppDevice
from edgevirt.fleet.objects.node.adapter import NodeAdapter
from edgevirt.fleet.objects.node.can import AdapterCan
from edgevirt.fleet.objects.node.edgenode import EdgeNodeStatus
from edgevirt.fleet.objects.node.hardware_model import (
    AdapterAddresses,
    HardwareModel,
    HardwareModelSpec,
    ModelAdapter,
)
from edgevirt.fleet.objects.node.port import NodePort
from edgevirt.fleet.render import Objects
from edgevirt.fleet.status import of_node
from edgevirt.model.app import Resources
from edgevirt.model.hardware import (
    Adapter,
    AdapterGroup,
    AdapterMember,
    Interface,
    IoType,
    MachineDevices,
    PciFunction,
    UsbDevice,
)
from edgevirt.model.ids import AppId
from edgevirt.model.sriov import FunctionSettings
from edgevirt.wire.convert import device as convert
from edgevirt.wire.convert import hardware
from edgevirt.wire.convert.hardware_inventory import fill_inventory
from edgevirt.wire.messages import common, config, info
from tests.unit.fleet.objects_world import APP, NODE, changed, having, meta

MODEL = HardwareModel(
    metadata=meta("box"),
    spec=HardwareModelSpec(
        adapters=(
            ModelAdapter(
                name="eth0", type="Ethernet", group="nics", usage="ManagementAndApps",
                addresses=AdapterAddresses(pci="0000:01:00.0", interface="eth0"),
            ),
            ModelAdapter(
                name="COM2", type="Serial", group="com",
                addresses=AdapterAddresses(serial="/dev/ttyS1"),
            ),
            ModelAdapter(
                name="pins", label="J7", type="GPIO", group="pins",
                addresses=AdapterAddresses(gpio="gpio-sim.0:4"),
            ),
        )
    ),
)  # fmt: skip
COM = AppDevice(name="port", type="Serial", adapter="com")


def objects(*devices: AppDevice, model: HardwareModel | None = MODEL, **node: Any) -> Objects:
    return having(
        apps={"web": changed(APP, devices=devices)},
        node=changed(NODE, **{"hardware_model": "box", **node}),
        hardware_models={"box": model} if model is not None else {},
    )


def test_the_model_becomes_the_list_of_devices_of_the_wire() -> None:
    message = convert.to_message(render.render(objects(COM)).config)
    port, com, pins = message.deviceIoList
    assert (port.logicallabel, port.assigngrp, port.ptype) == ("eth0", "nics", common.PhyIoNetEth)
    assert dict(port.phyaddrs) == {"ifname": "eth0", "pcilong": "0000:01:00.0"}
    assert (com.logicallabel, com.phylabel, com.ptype) == ("COM2", "COM2", common.PhyIoCOM)
    assert (pins.phylabel, dict(pins.phyaddrs)) == ("J7", {"gpio": "gpio-sim.0:4"})
    [app] = message.apps
    assert [(a.name, a.type) for a in app.adapters] == [("com", common.PhyIoCOM)]


CARD = ModelAdapter(
    name="eth1", type="EthernetPF", group="nic", virtual_functions=2,
    addresses=AdapterAddresses(interface="eth1"),
)  # fmt: skip


def test_virtual_functions_go_over_the_wire_as_eve_has_them_and_come_back() -> None:
    model = changed(MODEL, adapters=(*MODEL.spec.adapters, CARD))
    lan = AppDevice(
        name="lan", type="EthernetVF", adapter="nicvf1", mac="02:16:3E:00:00:01", vlan=7
    )
    message = convert.to_message(render.render(objects(lan, model=model)).config)
    card = message.deviceIoList[3]
    assert (card.ptype, card.vflist.vf_count) == (common.PhyIoNetEthPF, 2)
    [adapter] = message.apps[0].adapters
    assert (adapter.name, adapter.type) == ("nicvf1", common.PhyIoNetEthVF)
    assert (adapter.eth_vf.mac, adapter.eth_vf.vlan_id) == ("02:16:3e:00:00:01", 7)
    config = convert.from_message(message)
    assert config.devices[-1].function_count == 2
    function = FunctionSettings(mac="02:16:3e:00:00:01", vlan=7)
    assert config.apps[0].adapters[0].function == function


def test_a_card_that_is_a_port_has_its_virtual_functions_too() -> None:
    eth0 = replace(MODEL.spec.adapters[0], type="EthernetPF", virtual_functions=4)
    model = changed(MODEL, adapters=(eth0,))
    message = convert.to_message(render.render(objects(model=model)).config)
    port = hardware.device_of(convert.from_message(message).ports[0])
    assert port is not None
    assert (port.type, port.function_count, port.port) == (IoType.ETHERNET_PF, 4, "eth0")


def test_a_virtual_function_that_the_model_does_not_have_is_no_group() -> None:
    model = changed(MODEL, adapters=(*MODEL.spec.adapters, CARD))
    third = AppDevice(name="lan", type="EthernetVF", adapter="nicvf2")
    rendered = render.render(objects(third, model=model))
    assert "HardwareModel 'box' has no adapter group 'nicvf2'" in rendered.waiting["web-1"]
    assert model.groups == ("com", "nic", "nics", "nicvf0", "nicvf1", "pins")


def test_a_node_reads_its_devices_and_which_of_them_is_its_port() -> None:
    config = convert.from_message(convert.to_message(render.render(objects(COM)).config))
    assert [device.label for device in config.devices] == ["COM2", "pins"]
    port = hardware.device_of(config.ports[0])
    assert port is not None
    assert (port.port, port.group, port.addresses.pci) == ("eth0", "nics", "0000:01:00.0")
    assert config.apps[0].adapters == (Adapter(name="com", type=IoType.COM),)


def test_a_bus_is_set_by_the_words_that_eve_has_for_it() -> None:
    bus = ModelAdapter(
        name="can0", type="CAN", group="can", addresses=AdapterAddresses(interface="can0"),
        can=AdapterCan(bitrate=500_000, data_bitrate=2_000_000, sample_point="0.875"),
    )  # fmt: skip
    model = changed(MODEL, adapters=(bus,))
    message = convert.to_message(render.render(objects(model=model)).config)
    told = next(io for io in message.deviceIoList if io.ptype == common.PhyIoCAN)
    words = {"bitrate": "500000", "dbitrate": "2000000", "fd": "on", "sample-point": "0.875"}
    assert dict(told.cbattr) == words
    read = hardware.physical_io(told)
    assert dict(read.settings) == words
    assert read.rest == b"", "nothing of it is beyond the noun"


def test_a_port_by_another_name_is_known_by_its_interface() -> None:
    rendered = render.render(objects(ports=(NodePort(name="wan", interface="eth0"),))).config
    assert [device.label for device in rendered.devices] == ["COM2", "pins"]
    port = hardware.device_of(rendered.ports[0])
    assert port is not None
    assert (port.label, port.group) == ("wan", "nics")


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (objects(COM, hardware_model=""), "EdgeNode 'till-1' has no hardwareModel"),
        (objects(COM, model=None), "HardwareModel 'box' does not exist"),
        (
            objects(replace(COM, adapter="gpu")),
            "HardwareModel 'box' has no adapter group 'gpu'",
        ),
        (
            objects(replace(COM, adapter="pins")),
            "adapter group 'pins' of HardwareModel 'box' is GPIO, not Serial",
        ),
    ],
)
def test_an_app_whose_device_the_node_lacks_is_not_put_there(world: Objects, why: str) -> None:
    rendered = render.render(world)
    assert why in rendered.waiting["web-1"]
    assert rendered.config.apps == ()


def test_another_device_makes_the_app_anew_and_none_leaves_it_alone() -> None:
    without = render.render(having()).config.apps[0]
    same = render.render(objects()).config.apps[0]
    other = render.render(objects(COM)).config.apps[0]
    assert without.purge_counter == same.purge_counter != other.purge_counter
    assert without.volumes == other.volumes


def test_an_order_goes_across_interfaces_and_devices_and_an_app_without_one_is_left_alone() -> None:
    two = tuple(replace(APP.spec.interfaces[0], name=name, ports=()) for name in ("lan", "dmz"))
    nic = AppDevice(name="wan", type="Ethernet", adapter="nics")

    def told(*order: str) -> config.AppInstanceConfig:
        fields = {"type": "VM", "env": (), "command": (), "volumes": (), "devices": (COM, nic)}
        app = changed(APP, interfaces=two, interface_order=order, **fields)
        node = changed(NODE, hardware_model="box")
        found = having(apps={"web": app}, node=node, hardware_models={"box": MODEL})
        [message] = convert.to_message(render.render(found).config).apps
        return message

    message = told("wan", "dmz")
    assert message.fixedresources.enforce_network_interface_order
    assert [(one.name, one.interface_order) for one in message.interfaces] == [
        ("lan", 3),
        ("dmz", 2),
    ]
    orders = {one.name: one.interface_order for one in message.adapters}
    assert orders == {"com": 4, "nics": 1}
    before = told()
    assert not before.fixedresources.enforce_network_interface_order
    assert not any(one.interface_order for one in before.interfaces)
    assert not any(one.interface_order for one in before.adapters)
    assert before.restart.counter != message.restart.counter
    assert told("wan", "lan").restart.counter != message.restart.counter


def test_an_app_has_a_virtual_tpm_when_it_asks_for_one_and_else_none() -> None:
    asked = objects(AppDevice(name="tpm", type="TPM"), hardware_model="")
    [app] = convert.to_message(render.render(asked).config).apps
    assert not app.fixedresources.disable_vtpm
    assert not app.adapters
    [app] = convert.to_message(render.render(objects()).config).apps
    assert app.fixedresources.disable_vtpm
    assert not Resources(memory_kib=1).tpm


def test_people_see_who_has_which_devices() -> None:
    message = info.ZInfoDevice()
    message.appInstances.add(uuid="1", name="web-1")
    com = AdapterGroup(
        name="com",
        type=IoType.COM,
        members=(AdapterMember(label="COM2", type=IoType.COM, absent="no serial port is X"),),
    )
    port = AdapterGroup(
        name="nics", type=1, node=True, why_not="it is a port of the node itself, eth0"
    )
    free = AdapterGroup(name="/x", type=255, why_not="it is in no group of devices")
    hardware.fill_adapters((com, port, free), {"com": AppId("1")}, message)
    status = of_node.fill(EdgeNodeStatus(), message, 1.0, 1.0)
    lost = "cannot find COM2: no serial port is X"
    assert status.adapters == (
        NodeAdapter(group="com", type="Serial", members="COM2", used_by="web-1", message=lost),
        NodeAdapter(group="nics", type="Ethernet", used_by="node"),
        NodeAdapter(
            group="x", type="Other", message="cannot assign x: it is in no group of devices"
        ),
    )
    assert f"adapter group com: {lost}" in status.errors


def test_an_app_is_told_with_what_it_has() -> None:
    com = AdapterGroup(name="com", type=IoType.COM)
    pins = AdapterGroup(name="pins", type=255)
    message = info.ZInfoApp(AppID="1")
    hardware.fill_assigned((com, pins), {"com": AppId("1"), "pins": AppId("2")}, message)
    assert [bundle.name for bundle in message.assignedAdapters] == ["com"]


def test_the_inventory_is_what_a_model_can_be_made_of() -> None:
    message = info.HardwareInventory()
    fill_inventory(
        message,
        MachineDevices(
            pci=(PciFunction(address="0000:3a:1f.7", vendor=0x8086, kind=0x0C0330, driver="x"),),
            usb=(
                UsbDevice(port="1:2.4", vendor=1, product=2, node=""),
                UsbDevice(port="1:2", vendor=1, product=2, node="", hub=True),
            ),
            serial=("/dev/ttyS1",),
            interfaces=(Interface(name="can0", can=True), Interface(name="eth0")),
        ),
        {"wlan0": "02:00:00:00:00:07"},
    )
    [function] = message.pci_devices
    at = function.address
    assert (at.domain, at.bus, at.device, at.function) == (0, 0x3A, 0x1F, 7)
    assert (function.class_id, function.subclass_id) == (0x0C, 0x03)
    assert [(d.bus_port.bus, d.bus_port.port) for d in message.usb_devices] == [(1, "2.4")]
    assert message.serial_devices[0].devpath == "/dev/ttyS1"
    assert [device.ifname for device in message.can_devices] == ["can0"]
    told = [(device.ifname, device.mac_address) for device in message.network_devices]
    assert told == [("wlan0", "02:00:00:00:00:07"), ("eth0", "")]


def test_a_card_and_its_virtual_functions_are_told_as_such() -> None:
    message = info.HardwareInventory()
    card = PciFunction(address="0000:02:00.0", most_functions=7, functions=("0000:02:10.0",))
    virtual = PciFunction(address="0000:02:10.0", card="0000:02:00.0")
    interfaces = (
        Interface(name="eth1", pci="0000:02:00.0"),
        Interface(name="eth2", pci="0000:02:10.0"),
    )
    fill_inventory(message, MachineDevices(pci=(card, virtual), interfaces=interfaces), {})
    first, second = message.network_devices
    assert first.type == info.NETWORK_DEVICE_TYPE_ETH_PF
    assert second.type == info.NETWORK_DEVICE_TYPE_ETH_VF
    assert (first.parent.pci_parent.bus, second.parent.pci_parent.device) == (2, 0x10)
    assert dict(message.misc) == {
        "sriov-totalvfs/0000:02:00.0": "7",
        "sriov-physfn/0000:02:10.0": "0000:02:00.0",
    }
