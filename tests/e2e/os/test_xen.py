"""The xen variant on real firmware: GRUB starts Xen, Xen starts our kernel as its first domain, and
the node runs there: it onboards, and makes a domain."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from edgevirt.host.kvm.acceleration import EMULATED
from edgevirt.image.build import open_build
from edgevirt.image.eci.oci import Layer, Pusher, make_image
from edgevirt.image.machine import Firmware
from edgevirt.image.recipe import Arch, Variant
from edgevirt.model.content import ImageConfig
from edgevirt.model.disk import Label
from edgevirt.model.ids import Digest
from tests.e2e.os.os_system import IMAGES, OsSystem, os_system
from tests.e2e.os.probe_disk import CACHE, Probe, boot, make_probe, registers, slot_of
from tests.e2e.os.xen_guest import guest_kernel, make_guest_initrd
from tests.e2e.system import NODE
from tests.e2e.terminal import PATIENCE, terminal

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]

MACHINE: Final[dict[str, Any]] = {"cpu": f"{EMULATED},-smap,-rdtscp", "memory": 1024}
"""With SMAP, QEMU's emulated processor (7.2) fails the first domain at its first system call; with
RDTSCP, a domain by hardware at that instruction, whose length Xen is not told; with two processors
each change of a page table waits for both, which makes its boot five times slower.
"""
ONLINE: Final = 1500.0
"""Seconds from power to the first domain's last word: it is slow where all of it is emulated."""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return make_probe(tmp_path_factory.mktemp("probe"), Variant.XEN)


def test_the_registers_hold_what_the_builder_computed(probe: Probe, tmp_path: Path) -> None:
    disk = probe.copy(tmp_path / "disk.raw")
    printed = boot(tmp_path, disk, Firmware.UEFI, tpm=True, patience=ONLINE, **MACHINE)
    found = registers(printed)
    assert {name: found[name] for name in probe.expected} == {
        name: values[0] for name, values in probe.expected.items()
    }


@pytest.mark.parametrize("firmware", Firmware)
def test_config_changes_the_first_domain_s_share_of_the_machine(
    probe: Probe, tmp_path: Path, firmware: Firmware
) -> None:
    disk = probe.copy(tmp_path / "disk.raw")
    settings = b'set_global hv_dom0_mem_settings "600M"\nset_global hv_dom0_cpu_settings "1"\n'
    probe.put(disk, Label.CONFIG, {"grub.cfg": settings})
    printed = boot(tmp_path, disk, firmware, patience=ONLINE, **MACHINE)
    assert slot_of(printed) == "IMGA"
    assert "hv_dom0_mem_settings=dom0_mem=600M,max:600M" in printed
    assert "hv_dom0_cpu_settings=dom0_max_vcpus=1" in printed
    found = re.search(r"TOLD memory MemTotal: +(\d+) kB", printed)
    assert found
    assert int(found[1]) < 600 << 10


# -- the whole node ----------------------------------------------------------------------------

XEN_IMAGES: Final = IMAGES.with_name("xen-amd64")
GUEST: Final = 600.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OsSystem]:
    assert (XEN_IMAGES / "manifest.json").exists(), "`make image VARIANT=xen` makes it"
    directory = tmp_path_factory.mktemp("xen")
    with os_system(directory, firmware=Firmware.UEFI, **{**MACHINE, "memory": 2048}) as system:
        system.lay_disk(XEN_IMAGES)
        system.power_on()
        system.online(ONLINE)
        yield system


def test_the_node_comes_up_in_the_first_domain(node: OsSystem) -> None:
    assert "the machine is Xen's first domain" in node.machine.printed()
    [running] = node.eventually("it tells what runs", lambda: running_slots(node), ONLINE)
    assert running["version"].endswith("-xen-amd64")


def running_slots(node: OsSystem) -> list[Any]:
    return [slot for slot in node.os().get("slots", ()) if slot.get("running")]


def test_an_app_is_a_domain_with_a_disk_and_a_console(node: OsSystem) -> None:
    build = open_build(Variant.XEN, Arch.AMD64, CACHE, ())
    initrd, disk = node.directory / "guest.img", node.directory / "guest.disk"
    make_guest_initrd(build, node.directory / "guest", initrd)
    disk.write_bytes(b"written by whoever made it".ljust(1 << 20, b"\0"))
    for name, path in (("kernel", guest_kernel(build)), ("initrd", initrd), ("disk", disk)):
        add_file(node, name, path)
    add_guest(node, "guest")
    wanted = ("its disk says: written by whoever made it", "is a PV domain", "as-the-app-says")
    for text in wanted:
        within(node, "guest", f"it says {text}", functools.partial(says, node, "guest", text))
    assert node.app_state("guest") == "RUNNING"
    node.fleet.patch("AppInstance", "guest", {"activate": False})
    within(node, "guest", "it is HALTED", lambda: node.app_state("guest") == "HALTED")


def test_a_domain_is_started_by_the_processor_where_its_app_says_so(node: OsSystem) -> None:
    assert node.node_status()["virtualization"] == "Hardware"
    add_guest(node, "by-hardware", virtualization="HVM")
    text = "is a PVH domain"
    within(
        node, "by-hardware", f"it says {text}", functools.partial(says, node, "by-hardware", text)
    )
    node.fleet.patch("AppInstance", "by-hardware", {"activate": False})


def test_a_domain_has_the_network_of_its_app(node: OsSystem) -> None:
    add_guest(node, "connected", interfaces=[{"name": "eth0", "networkInstance": "apps"}])
    given = "was given the address 10.9.0."
    within(node, "connected", f"it {given}", functools.partial(says, node, "connected", given))


def test_at_its_console_one_types_at_a_domain(node: OsSystem) -> None:
    with terminal(node, "console", "connected") as person:
        person.shows(f"at the console of connected on {NODE}", GUEST)
        person.type("who is there\r")
        person.shows("GUEST heard who is there", GUEST)
        person.type("\x1d")
        assert person.process.wait(PATIENCE) == 0
    heard = "GUEST heard who is there"
    within(node, "connected", "its log has it", functools.partial(says, node, "connected", heard))
    done = node.command("vnc", "connected")
    assert done.returncode == 1
    assert "has no screen" in done.stderr


def add_guest(node: OsSystem, name: str, **more: object) -> None:
    app = {
        "type": "Unikernel",
        "image": "kernel",
        "ramdisk": "initrd",
        "command": ["console=hvc0", "quiet", "note=as-the-app-says"],
        "resources": {"cpu": 1, "memory": "128Mi"},
        "volumes": [{"name": "data", "image": "disk", "size": "1Mi"}],
        **more,
    }
    node.fleet.create("App", name, app)
    node.fleet.create("AppInstance", name, {"app": name, "edgeNode": NODE})


def within(node: OsSystem, name: str, what: str, found: Callable[[], object]) -> None:
    """With what is known of the guest where it does not come."""
    try:
        node.eventually(what, found, GUEST)
    except AssertionError as error:
        status = node.fleet.status("AppInstance", name)
        raise AssertionError(f"{status}\n{said(node, name)[-2000:]}\n{error}") from None


def says(node: OsSystem, name: str, text: str) -> bool:
    return text in said(node, name)


def said(node: OsSystem, name: str) -> str:
    return node.command("logs", f"appinstance/{name}").stdout


def add_file(node: OsSystem, name: str, path: Path) -> None:
    """An Image of one raw file."""
    digest = Digest(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    image = make_image([Layer(path, digest, digest, path.stat().st_size)], ImageConfig())

    async def push() -> str:
        pusher = Pusher(node.registry.host)
        try:
            return str(await pusher.push(image, f"{name}:1"))
        finally:
            await pusher.close()

    sha256 = asyncio.run(push()).removeprefix("sha256:")
    node.add_image(name, f"{name}:1", format="Raw", sha256=sha256)
