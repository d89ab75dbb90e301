"""Devices in a container's virtual machine: a real guest with real drivers; QEMU plays the devices
that a node would have."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgevirt.host.container.bundle import Bundle
from edgevirt.host.kvm.hypervisor import KvmHypervisor
from edgevirt.host.kvm.qmp import ask, lend
from edgevirt.model.content import ImageConfig
from edgevirt.model.domain import Domain
from edgevirt.model.hardware import Addresses, DomainDevice, IoType, MachineDevices, UsbDevice
from tests.worlds.contained import ContainedWorld, world_of
from tests.worlds.monitored import until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

EMULATED = 120.0
FIRST_PLACE = 0x0F
"""Where such a machine has its first PCI function."""
STICK = UsbDevice(port="1:1", vendor=0x46F4, product=1, node="/dev/bus/usb/001/002")


class PlayedDevices(KvmHypervisor):
    """`stick`: a disk's content that is plugged in before the guest runs. `functions`: QEMU's words
    for PCI functions, at the places that the node's would have.
    """

    stick: Path | None = None
    functions: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    def _build(self, bundle: Bundle, domain: Domain, user_data: bytes) -> str:
        remark = super()._build(bundle, domain, user_data)
        path = bundle.directory / "cell.json"
        cell = json.loads(path.read_bytes())
        cell["command"] += self.more
        for place, function in enumerate(self.functions, FIRST_PLACE):
            cell["command"] += ["-device", f"{function},addr={place:#x}"]
        path.write_text(json.dumps(cell))
        return remark

    async def _plug(self, bundle: Bundle) -> None:
        if self.stick is not None:
            await _plug_stick(bundle, self.stick)


async def _plug_stick(bundle: Bundle, stick: Path) -> None:
    monitor = bundle.directory / "qmp"
    opened = os.open(stick, os.O_RDWR)
    try:
        file = {"driver": "file", "filename": "/dev/fdset/150"}
        drive: dict[str, object] = {"driver": "raw", "node-name": "stick", "file": file}
        await lend(monitor, opened, 150, "blockdev-add", drive)
    finally:
        os.close(opened)
    await ask(monitor, "device_add", driver="usb-storage", bus="usb.0", port="1", drive="stick")


class DeviceWorld(ContainedWorld):
    def playing(self) -> PlayedDevices:
        return self.made(PlayedDevices)

    def script(self, script: str, *, user: str = "app", **more: object) -> Domain:
        """Not as root: whoever the app is, it may use what it was given."""
        image = ImageConfig(entrypoint=("app", "do"), user=user)
        return replace(self.domain(script, image=image), **more)


@pytest.fixture
async def world() -> AsyncIterator[DeviceWorld]:
    with world_of(DeviceWorld) as made:
        await made.pack()
        try:
            yield made
        finally:
            await made.close()


def sockets(*names: str) -> tuple[DomainDevice, ...]:
    return tuple(
        DomainDevice(
            label=name, type=IoType.USB_DEVICE, addresses=Addresses(usb_port=f"1:{number}")
        )
        for number, name in enumerate(names, 1)
    )


PLUGGED = """\
dd if=/dev/edgevirt/stick/sda bs=4 count=1 2>/dev/null
echo
until [ -w /dev/ttyUSB0 ]; do sleep 0.1; done
echo weigh >/dev/ttyUSB0
echo said
until [ -r /dev/hidraw0 ]; do sleep 0.1; done
echo input
while [ -L /dev/edgevirt/line/ttyUSB0 ]; do sleep 0.1; done
echo /dev/edgevirt/stick/*
dd if=/dev/vda bs=1 count=1 >/dev/null 2>&1 || echo its own disks are not the app\\'s
"""


async def test_what_was_plugged_in_is_there_before_the_app_and_what_comes_later_comes(
    world: DeviceWorld,
) -> None:
    hypervisor = world.playing()
    hypervisor.stick = world.directory / "stick"
    hypervisor.stick.write_bytes(b"mine".ljust(1 << 20, b"\0"))
    world.devices.machine = MachineDevices(usb=(STICK,))
    domain = world.script(PLUGGED, devices=sockets("stick", "line", "tablet"))
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await until(lambda: "mine" in world.console(domain.app), EMULATED)

    monitor = world.bundle(domain.app).directory / "qmp"
    await ask(monitor, "chardev-add", id="line", backend={"type": "ringbuf", "data": {}})
    await ask(
        monitor, "device_add",
        driver="usb-serial", id="line", bus="usb.0", port="2", chardev="line",
    )  # fmt: skip
    await until(lambda: "said" in world.console(domain.app), EMULATED)
    await until(lambda: _hears(monitor, "weigh"), EMULATED)
    await ask(monitor, "device_add", driver="usb-tablet", bus="usb.0", port="3")
    await until(lambda: "input" in world.console(domain.app), EMULATED)
    await ask(monitor, "device_del", id="line")
    ended = await hypervisor.wait_exit(domain.app)
    assert ended is not None
    assert ended.exit is not None
    assert ended.exit.code == 0
    assert world.console(domain.app).splitlines() == [
        "mine",
        "said",
        "input",
        "/dev/edgevirt/stick/sda /dev/edgevirt/stick/usb",
        "its own disks are not the app's",
    ]


async def _hears(monitor: Path, words: str) -> bool:
    return words in str(await ask(monitor, "ringbuf-read", device="line", size=100))


FUNCTIONS = """\
dd if=/dev/nvme0n1 bs=512 count=1 >/dev/null 2>&1 && echo disk
grep . /sys/class/net/eth0/address /sys/class/net/eth0/operstate
"""


async def test_pci_functions_are_driven_and_the_app_may_use_them(world: DeviceWorld) -> None:
    hypervisor = world.playing()
    hypervisor.more = ("-blockdev", "null-co,node-name=nothing,size=1048576,read-zeroes=on")
    network = "e1000e,mac=52:54:00:00:00:07,romfile="
    hypervisor.functions = ("nvme,serial=1,drive=nothing", network)
    domain = world.script(FUNCTIONS, devices=sockets("stick"))
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await hypervisor.wait_exit(domain.app)
    said = world.console(domain.app).splitlines()
    assert "disk" in said
    assert "/sys/class/net/eth0/address:52:54:00:00:00:07" in said


async def test_the_app_can_mount_what_is_on_a_stick(world: DeviceWorld) -> None:
    """As root, in its own kernel: the driver of a file system comes when it is asked for."""
    hypervisor = world.playing()
    hypervisor.stick = world.directory / "stick"
    subprocess.run(["mkfs.vfat", "-C", hypervisor.stick, "1024"], check=True, capture_output=True)
    world.devices.machine = MachineDevices(usb=(STICK,))
    script = (
        "mount -t vfat /dev/edgevirt/stick/sda /tmp; echo kept >/tmp/file; cat /tmp/file; mount"
    )
    domain = world.script(script, user="root", devices=sockets("stick"))
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await hypervisor.wait_exit(domain.app)
    said = world.console(domain.app).splitlines()
    assert said[0] == "kept"
    assert any("/tmp type vfat" in line for line in said)


RANDOM = r"\200\001\000\000\000\014\000\000\001\173\000\010"
"""TPM2_GetRandom, of eight bytes."""
TPM = f"""\
exec 3<>/dev/tpm$0
printf '{RANDOM}' >/tmp/asked
cat /tmp/asked >&3
dd bs=4096 count=1 <&3 2>/dev/null | busybox hexdump -ve '1/1 "%02x"'
"""


@pytest.mark.parametrize("which", ["0", "rm0"])
async def test_a_tpm_of_its_own_answers_the_app(world: DeviceWorld, which: str) -> None:
    code, said = await world.output(world.script(TPM.replace("$0", which), tpm=True))
    assert said.startswith("80010000001400000000")
    assert code == 0
