"""Devices on the booted operating system: a PCI function by vfio, a USB device, a serial port and a
TPM, all in one virtual machine (that a guest uses them is in tests/e2e/test_devices.py); and a disk
on PCI and one on USB, in a container's machine, which reads them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.machine_apps import running
from tests.e2e.os.os_system import BOOT, OsSystem, os_system
from tests.e2e.system import NODE, read
from tests.parts.device_guest import make_device_guest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3000)]

EMULATED = 900.0
"""Seconds for a guest within a guest."""
EDU = "0000:00:10.0"
"""QEMU's device for teaching: nothing of the node's drives it."""
NVME = "0000:00:11.0"
SETTINGS = 'set_global dom0_extra_args "vfio_iommu_type1.allow_unsafe_interrupts=1"\n'
"""Interrupts are not remapped here: an emulated timer behind that is late on a busy machine, at
which Linux panics."""
MODEL = {
    "adapters": [
        {"name": "eth0", "type": "Ethernet", "group": "eth0", "addresses": {"interface": "eth0"}},
        {"name": "card", "type": "PCI", "group": "card", "addresses": {"pci": EDU}},
        {"name": "COM2", "type": "Serial", "group": "com2", "addresses": {"serial": "/dev/ttyS1"}},
        {
            "name": "tablet",
            "type": "USBDevice",
            "group": "tablet",
            "addresses": {"usbProduct": "0627:0001"},
        },
        {"name": "disk", "type": "NVMe", "group": "disk", "addresses": {"pci": NVME}},
        {
            "name": "stick",
            "type": "USBDevice",
            "group": "stick",
            "addresses": {"usbProduct": "46f4:0001"},
        },
        {
            "name": "late",
            "type": "Serial",
            "group": "late",
            "addresses": {"serial": "/dev/ttyUSB0"},
        },
    ]
}
DEVICES = [
    {"name": "card", "type": "PCI", "adapter": "card"},
    {"name": "line", "type": "Serial", "adapter": "com2"},
    {"name": "tablet", "type": "USBDevice", "adapter": "tablet"},
    {"name": "tpm", "type": "TPM"},
]
WALLED = [
    {"name": "disk", "type": "NVMe", "adapter": "disk"},
    {"name": "stick", "type": "USBDevice", "adapter": "stick"},
    {"name": "tpm", "type": "TPM"},
]


def adapters(system: OsSystem) -> dict[str, str]:
    """Who has which group."""
    told = system.node_status().get("adapters", [])
    return {one["group"]: one.get("usedBy", "") for one in told}


def test_devices_of_each_kind_are_given_to_virtual_machines(tmp_path: Path) -> None:
    line = tmp_path / "line"
    for name in ("disk", "stick"):
        (tmp_path / name).write_bytes(f"on the {name}\n".encode().ljust(1 << 20, b"\0"))
    arguments = (
        *("-device", "intel-iommu,intremap=off"),
        *("-device", "edu,addr=0x10"),
        *("-device", "qemu-xhci,id=xhci"),
        *("-device", "usb-tablet,id=tablet,bus=xhci.0"),
        *("-chardev", f"file,id=line,path={line}", "-serial", "chardev:line"),
        *("-drive", f"if=none,id=disk,format=raw,file={tmp_path}/disk"),
        *("-device", "nvme,addr=0x11,serial=1,drive=disk"),
        *("-blockdev", f"raw,node-name=stick,file.driver=file,file.filename={tmp_path}/stick"),
        *("-device", "usb-storage,id=stick,bus=xhci.0,drive=stick"),
    )
    with os_system(tmp_path / "system", memory=2560, watchdog=False, arguments=arguments) as system:
        system.fleet.create("HardwareModel", "box", MODEL)
        system.fleet.patch("EdgeNode", NODE, {"hardwareModel": "box"})
        (system.directory / "config/grub.cfg").write_text(SETTINGS)
        system.lay_disk()
        system.power_on()
        system.online(EMULATED)
        _add_guest(system, tmp_path)
        system.eventually("it runs", lambda: running(system, "guest"), EMULATED)
        wanted = {"eth0": "node", "card": "guest", "com2": "guest", "tablet": "guest"}
        wanted |= {"disk": "", "stick": "", "late": ""}
        system.eventually("the node tells who has them", lambda: adapters(system) == wanted, BOOT)
        assert system.troubles("guest") == []
        _plug_late(system)
        system.remove_app("guest")
        _read_in_a_container(system)


def _plug_late(system: OsSystem) -> None:
    """The node itself loads what drives a device that was not there when it started."""

    def message() -> str:
        told = system.node_status()["adapters"]
        return next(str(one.get("message", "")) for one in told if one["group"] == "late")

    assert "no serial port is /dev/ttyUSB0" in message()
    system.machine.ask("chardev-add", id="late", backend={"type": "ringbuf", "data": {}})
    system.machine.ask("device_add", driver="usb-serial", bus="xhci.0", chardev="late")
    system.eventually("the node has its driver", lambda: not message(), BOOT)


def _read_in_a_container(system: OsSystem) -> None:
    system.push("probe:1.0")
    system.add_image("probe", "probe:1.0")
    port = system.add_app(
        "walled",
        port=system.ports[0],
        virtualization="",
        resources={"cpu": 1, "memory": "160Mi"},
        devices=WALLED,
    )
    url = system.url(port)
    system.eventually("it answers", lambda: read(url), EMULATED)
    said = read(f"{url}cgi-bin/run", "head -1 /dev/nvme0n1; head -1 /dev/sda; ls /dev/tpm*")
    assert said.split("\n")[:4] == ["on the disk", "on the stick", "/dev/tpm0", "/dev/tpmrm0"]
    assert adapters(system)["disk"] == "walled"
    assert system.troubles("walled") == []
    _plug_again(system, f"{url}cgi-bin/run")


def _plug_again(system: OsSystem, run: str) -> None:
    """The app sees it go, and come."""
    look = "cat /dev/edgevirt/stick/sd*"
    system.machine.ask("device_del", id="stick")
    system.eventually("it is gone", lambda: "on the stick" not in read(run, look), EMULATED)
    system.eventually("the node says so", lambda: system.troubles("walled"), BOOT)
    system.machine.ask("device_add", driver="usb-storage", id="again", bus="xhci.0", drive="stick")
    system.eventually("it is back", lambda: "on the stick" in read(run, look), EMULATED)


def _add_guest(system: OsSystem, directory: Path) -> None:
    source = directory / "guest"
    made = directory / "made"
    made.mkdir()
    source.mkdir()
    for path in make_device_guest(made):
        shutil.copy(path, source / path.name)
    (source / "eci.yaml").write_text(
        "kernel: kernel\ninitrd: initrd\ncmdline: console=ttyS0 quiet\n"
    )
    layout = str(directory / "layout")
    system.edgevirt("eci", "build", str(source), "-o", layout)
    system.edgevirt("eci", "push", layout, f"{system.registry.host}/guest:1")
    system.add_image("guest", "guest:1")
    spec = {"type": "VM", "image": "guest", "resources": {"cpu": 1, "memory": "192Mi"}}
    system.fleet.create("App", "guest", {**spec, "devices": DEVICES})
    system.fleet.create("AppInstance", "guest", {"app": "guest", "edgeNode": NODE})
