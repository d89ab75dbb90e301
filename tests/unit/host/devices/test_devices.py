"""Devices in the hands of domains: what each finds, what it cannot reach; and all comes back."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from msgspec.structs import replace

from edgevirt.host.devices import of_container, of_machine
from edgevirt.host.devices.handover import Handover
from edgevirt.host.fakes.devices import FakeDevices
from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.host.kvm import plugging
from edgevirt.host.kvm.qmp import ask
from edgevirt.model.domain import BootOrder
from edgevirt.model.hardware import (
    Addresses,
    DomainDevice,
    GpioChip,
    IoType,
    MachineDevices,
    PciFunction,
    UsbDevice,
)
from edgevirt.model.sriov import VirtualFunction
from tests.e2e.machine_apps import boot_sector
from tests.worlds.container import ContainerWorld
from tests.worlds.guest import GuestWorld, guest_world
from tests.worlds.monitored import until

ZERO = os.makedev(1, 5)
NIC = PciFunction(address="0000:01:00.0", iommu_group="7")
CHIP = GpioChip(name="gpiochip0", label="sim", lines=8)
MACHINE = MachineDevices(pci=(NIC,), gpio=(CHIP,), iommu=True)


def device(label: str = "dev", type: int = IoType.OTHER, **addresses: str) -> DomainDevice:
    return DomainDevice(label=label, type=type, addresses=Addresses(**addresses))


@pytest.fixture
async def containers(tmp_path: Path) -> AsyncIterator[ContainerWorld]:
    world = ContainerWorld(tmp_path)
    yield world
    await world.close()


@pytest.fixture
async def guests() -> AsyncIterator[GuestWorld]:
    with guest_world() as made:
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
def port() -> Iterator[str]:
    """A device of the node's that reads as zeros."""
    path = f"/dev/ttyTEST{os.getpid()}"
    os.mknod(path, stat.S_IFCHR | 0o600, ZERO)
    yield path
    os.unlink(path)


# -- containers ----------------------------------------------------------------------------------


@pytest.mark.root
async def test_a_container_has_its_device_and_no_other(
    containers: ContainerWorld, port: str
) -> None:
    script = (
        'head -c 2 "$EDGEVIRT_DEVICE_COM_2" | cat -v; echo " read"; '
        "mknod /tmp/full c 1 7; head -c 1 /tmp/full || echo barred"
    )
    domain = replace(
        containers.domain("do", script), devices=(device("COM-2", IoType.COM, serial=port),)
    )
    hypervisor = containers.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await hypervisor.wait_exit(domain.app)
    said = containers.console(domain.app)
    assert "^@^@ read" in said
    assert "barred" in said


@pytest.mark.root
async def test_a_container_without_a_device_of_its_own_cannot_reach_that_of_the_node(
    containers: ContainerWorld, port: str
) -> None:
    domain = containers.domain("do", f"head -c 1 {port} || echo none")
    hypervisor = containers.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await hypervisor.wait_exit(domain.app)
    assert "none" in containers.console(domain.app)


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.mark.root
async def test_an_interface_moves_into_the_container_and_comes_back(
    containers: ContainerWorld,
) -> None:
    name = f"tst{uuid.uuid4().hex[:6]}"
    netns = f"edgevirt-{name}"
    run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    run("ip", "netns", "add", netns)
    try:
        domain = replace(
            containers.domain("do", "ip -o link; echo done; sleep 1000"),
            netns=f"/run/netns/{netns}",
            devices=(device("nic", IoType.ETHERNET, interface=name),),
        )
        hypervisor = containers.hypervisor()
        await hypervisor.create(domain, b"")
        await hypervisor.start(domain.app)
        await until(lambda: "done" in containers.console(domain.app))
        assert f"{name}@" in containers.console(domain.app)
        assert not Path(f"/sys/class/net/{name}").exists()
        await containers.hypervisor().delete(domain.app)  # as after a restart of the service
        assert Path(f"/sys/class/net/{name}").exists()
    finally:
        run("ip", "netns", "del", netns)
        subprocess.run(["ip", "link", "del", f"{name}p"], check=False)


@pytest.mark.root
async def test_a_virtual_function_s_interface_moves_into_the_container_by_its_own_name(
    containers: ContainerWorld,
) -> None:
    name = f"tst{uuid.uuid4().hex[:6]}"
    address, card = "0000:01:10.0", replace(NIC, interfaces=("eth1",))
    function = VirtualFunction(card=card.address, index=0, mac="02:00:00:00:00:02", vlan=7)
    run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    present = (card, PciFunction(address=address, card=card.address))
    devices = containers.devices
    devices.machine = MachineDevices(pci=present)
    devices.interfaces[address] = name
    before = devices.read_function(card.address, 0)
    try:
        given = DomainDevice(
            label=f"{name}vf0",
            type=IoType.ETHERNET_VF,
            addresses=Addresses(pci=address),
            function=function,
        )
        domain = replace(
            containers.domain("do", "ip -o link; echo done; sleep 1000"), devices=(given,)
        )
        hypervisor = containers.hypervisor()
        await hypervisor.create(domain, b"")
        await hypervisor.start(domain.app)
        await until(lambda: "done" in containers.console(domain.app))
        assert f"{name}vf0@" in containers.console(domain.app)
        assert devices.driven == {address: name}
        assert devices.read_function(card.address, 0) == function
        await containers.hypervisor().delete(domain.app)
        assert devices.driven == {}
        assert devices.read_function(card.address, 0) == before
    finally:
        subprocess.run(["ip", "link", "del", f"{name}p"], check=False)


@pytest.mark.root
async def test_what_a_container_cannot_have_leaves_nothing(containers: ContainerWorld) -> None:
    hypervisor = containers.hypervisor()
    for wrong, why in (
        (device(serial="/dev/ttyNONE"), "cannot give dev to the app"),
        (device(serial=str(containers.directory)), "is no device"),
        (device(usb_port="1:2"), "dev is not plugged in"),
        (device(pci="0000:01:00.0"), "a container cannot have dev"),
    ):
        domain = replace(containers.domain("run"), devices=(wrong,))
        with pytest.raises(HypervisorError, match=why):
            await hypervisor.create(domain, b"")
        assert await hypervisor.list() == ()


def test_what_was_taken_is_given_back_by_whoever_comes_after(tmp_path: Path) -> None:
    devices = FakeDevices(MACHINE)
    assert Handover(devices).take_function(tmp_path, NIC.address) == "/dev/vfio/7"
    with pytest.raises(HypervisorError, match="is not there"):
        Handover(devices).take_function(tmp_path, "0000:02:00.0")
    Handover(devices).give_back(tmp_path)
    assert devices.taken == set()


def test_a_virtual_function_is_set_for_its_app_and_as_it_was_after_it(tmp_path: Path) -> None:
    devices = FakeDevices(MachineDevices(pci=(replace(NIC, interfaces=("eth1",)),), iommu=True))
    before = VirtualFunction(card=NIC.address, index=1, mac="02:00:00:00:00:01", vlan=3)
    devices.set_function(before)
    wanted = VirtualFunction(card=NIC.address, index=1, mac="02:00:00:00:00:02", vlan=7)
    Handover(devices).set_function(tmp_path, wanted)
    assert devices.read_function(NIC.address, 1) == wanted
    Handover(devices).give_back(tmp_path)
    assert devices.read_function(NIC.address, 1) == before


def test_a_virtual_function_of_no_vlan_is_not_left_in_that_of_the_app_before(
    tmp_path: Path,
) -> None:
    devices = FakeDevices(MachineDevices(pci=(replace(NIC, interfaces=("eth1",)),), iommu=True))
    devices.set_function(VirtualFunction(card=NIC.address, index=0, vlan=7))
    Handover(devices).set_function(tmp_path, VirtualFunction(card=NIC.address, index=0))
    assert devices.read_function(NIC.address, 0).vlan == 0


def test_a_card_that_is_gone_does_not_keep_the_rest_from_being_given_back(tmp_path: Path) -> None:
    devices = FakeDevices(MachineDevices(pci=(replace(NIC, interfaces=("eth1",)),), iommu=True))
    Handover(devices).take_function(tmp_path, NIC.address)
    function = VirtualFunction(card=NIC.address, index=0, vlan=7)
    Handover(devices).set_function(tmp_path, function)
    devices.plug(MachineDevices())
    with pytest.raises(HypervisorError, match="no interface"):
        Handover(devices).set_function(tmp_path, function)
    Handover(devices).give_back(tmp_path)
    assert devices.taken == set()


def test_a_device_is_told_to_the_app_by_its_name_in_the_model() -> None:
    nodes = (
        of_container.DeviceNode("pins-a", "/dev/gpiochip3", 254, 3),
        of_container.DeviceNode("modem", "/dev/bus/usb/001/002", 189, 1),
        of_container.DeviceNode("modem", "/dev/ttyUSB0", 188, 0),
    )
    assert of_container.variables(nodes) == {
        "EDGEVIRT_DEVICE_PINS_A": "/dev/gpiochip3",
        "EDGEVIRT_DEVICE_MODEM": "/dev/bus/usb/001/002 /dev/ttyUSB0",
    }


# -- virtual machines ----------------------------------------------------------------------------


def test_qemu_is_told_of_each_device_by_what_cannot_be_another_one() -> None:
    devices = (
        device("nic", IoType.ETHERNET, pci="0000:01:00.0", interface="eth1"),
        device("com", IoType.COM, serial="/dev/ttyS1"),
        device("stick", IoType.USB_DEVICE, usb_port="1:2"),
    )
    told = " ".join(of_machine.words(devices, legacy=False))
    [(_, function)] = of_machine.function_words(devices, placed=False)
    assert "vfio" not in told
    told += " " + " ".join(function)
    assert "-device vfio-pci,host=0000:01:00.0,id=pci0" in told
    assert "-chardev serial,id=com0,path=/dev/fdset/70 -serial chardev:com0" in told
    assert "qemu-xhci,p2=15,p3=15,id=usb" in told
    assert "ttyS1" not in told


def test_a_machine_has_a_card_on_each_can_bus_and_not_the_node_s() -> None:
    devices = (
        device("field", IoType.CAN, pci="0000:01:00.0", interface="can0"),
        device("nic", IoType.ETHERNET, pci="0000:02:00.0", interface="eth1"),
        device("test", IoType.VCAN, interface="vcan0"),
    )
    of_machine.check(devices)
    told = " ".join(of_machine.words(devices, legacy=False))
    for index in range(2):
        bus = f"-object can-bus,id=can{index} -device kvaser_pci,canbus=can{index}"
        assert bus in told
    assert "vcan0" not in told
    assert of_machine.functions(devices) == ("0000:02:00.0",)
    with pytest.raises(UnfitError, match="at most 8 CAN buses"):
        of_machine.check(devices[:1] * 9)


def test_a_guest_of_ours_knows_what_was_given_to_it_by_its_place() -> None:
    cards = tuple(device(f"nic{n}", pci=f"0000:0{n}:00.0") for n in range(1, 3))
    words = of_machine.function_words(cards, placed=True)
    told = " ".join(word for _, function in words for word in function)
    assert "host=0000:01:00.0,id=pci0,addr=0xf " in told
    assert told.endswith("host=0000:02:00.0,id=pci1,addr=0x10")


@pytest.mark.parametrize(
    ("devices", "why"),
    [
        ((device(gpio="sim:1"),), "a virtual machine cannot have dev"),
        ((device("can0", IoType.CAN),), "cannot have can0"),
        (tuple(device(str(n), serial=f"/dev/ttyS{n}") for n in range(4)), "at most 3 serial"),
    ],
)
def test_a_device_that_no_machine_can_have_is_unfit(
    devices: tuple[DomainDevice, ...], why: str
) -> None:
    with pytest.raises(UnfitError, match=why):
        of_machine.check(devices)


@pytest.mark.root
async def test_a_machine_has_a_serial_port_of_the_node(guests: GuestWorld) -> None:
    ours, theirs = os.openpty()
    try:
        domain = guests.domain(
            "run", devices=(device("com", IoType.COM, serial=os.ttyname(theirs)),)
        )
        hypervisor = guests.hypervisor()
        await hypervisor.create(domain, b"")
        info = await hypervisor.start(domain.app)
        await guests.ready(domain.app)
        monitor = guests.bundle(domain.app).directory / "qmp"
        assert "serial" in str(await ask(monitor, "query-chardev"))
        opened = {
            os.readlink(entry)
            for entry in Path(f"/proc/{info.pid}/fd").iterdir()
            if entry.is_symlink()
        }
        assert os.ttyname(theirs) in opened
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.root
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_stick_that_is_not_there_yet_does_not_keep_a_machine_from_starting(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Also on the node's event loop, which has sockets of its own kind."""
    with guest_world() as guests, asyncio.Runner(loop_factory=loop) as runner:
        try:
            runner.run(_plug(guests))
        finally:
            runner.run(guests.close())


async def _plug(guests: GuestWorld) -> None:
    domain = guests.domain("run", devices=(device("stick", IoType.USB_DEVICE, usb_port="1:2"),))
    hypervisor = guests.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await guests.ready(domain.app)
    assert await hypervisor.attend(domain) == ("stick is not plugged in",)
    guests.devices.plug(
        MachineDevices(usb=(UsbDevice(port="1:2", vendor=1, product=2, node="/dev/null"),))
    )
    with pytest.raises(HypervisorError, match="device_add"):  # QEMU looks whether it is one
        await hypervisor.attend(domain)
    info = await hypervisor.info(domain.app)
    assert info is not None
    assert info.state.name == "RUNNING"


@pytest.mark.root
@pytest.mark.parametrize("order", [BootOrder.USB, BootOrder.UNSPECIFIED])
async def test_a_machine_whose_socket_is_empty_boots_from_its_disk(
    guests: GuestWorld, order: BootOrder
) -> None:
    """It is reset before it runs, so that its firmware knows the order."""
    disk = guests.disk()
    Path(disk.path).write_bytes(boot_sector("from its disk"))
    stick = device("stick", IoType.USB_DEVICE, usb_port="1:2")
    domain = guests.domain(
        volumes=(disk,), kernel="", kernel_arguments="", boot_order=order, devices=(stick,)
    )
    hypervisor = guests.hypervisor()
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await until(lambda: "from its disk" in guests.console(domain.app))


def test_what_is_plugged_in_has_the_place_of_its_socket_in_the_order_of_boot() -> None:
    assert "bootindex" not in plugging.device_words("usb0", 1, None)
    assert plugging.device_words("usb7", 3, 2)["bootindex"] == 4


async def test_a_hub_or_the_nodes_disk_in_the_socket_is_not_given_away(tmp_path: Path) -> None:
    wanted = (device("stick", IoType.USB_DEVICE, usb_port="1:2"),)
    stick = UsbDevice(port="1:2", vendor=1, product=2, node="/dev/null")
    hub, disk = replace(stick, hub=True), replace(stick, disks=("sda1",))
    modem = replace(stick, interfaces=("wwan0",))
    for found, why in ((hub, "a hub"), (disk, "disk"), (modem, "network adapter")):
        machine = MachineDevices(usb=(found,))
        [missing] = await plugging.attend(tmp_path, tmp_path / "qmp", wanted, machine)
        assert why in missing
