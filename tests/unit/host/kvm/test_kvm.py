"""Virtual machines: their command lines, their seed disks, and what is refused before any start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Coroutine
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec.structs import replace
from pycdlib import PyCdlib

from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.host.kvm import disks, qemu
from edgevirt.host.kvm.seed import MOST_USER_DATA, make_seed
from edgevirt.model.access import ConsoleKind
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat
from edgevirt.model.domain import (
    BootMode,
    BootOrder,
    DiskStatus,
    Domain,
    DomainVif,
    DomainVolume,
    VirtualizationMode,
)
from edgevirt.model.hardware import Addresses, DomainDevice, IoType
from edgevirt.model.ids import AppId
from tests.worlds.guest import GuestWorld, guest_world
from tests.worlds.monitored import PATIENCE, until

DISK = DomainVolume(path="/volumes/evil,file=/etc/shadow", format=ContentFormat.QCOW2)
FLOPPY = DomainVolume(path="/volumes/a", format=ContentFormat.RAW, mount_dir="/dev/fd0")
CD = DomainVolume(path="/volumes/cd", format=ContentFormat.ISO)
DOMAIN = Domain(
    app=AppId("a0000000-0000-4000-8000-000000000001"),
    name="a.1.7",
    display_name="evil,id=x",
    activate=True,
    mode=VirtualizationMode.PV,
    memory_kib=65536,
    vcpus=2,
    volumes=(DISK,),
    vifs=(DomainVif(host_name="nbu0x7", mac="02:16:3e:00:00:01"),),
)


def words(domain: Domain, **more: Any) -> str:
    qemu.check(domain)
    return " ".join(qemu.command("qemu", qemu.Machine(domain, "tcg", **more)))


def test_no_name_that_somebody_else_chose_is_on_the_command_line() -> None:
    said = words(DOMAIN)
    assert "evil" not in said
    assert "/volumes" not in said


def test_a_disk_that_may_be_written_is_opened_so_at_once() -> None:
    """Else QEMU leaves locks at its first descriptor, which bar the disk from growing."""
    assert ",readonly=off,discard=unmap,auto-read-only=off" in words(DOMAIN)
    assert "auto-read-only" not in words(replace(DOMAIN, volumes=(replace(DISK, readonly=True),)))


def test_every_file_of_the_command_line_is_open_and_a_disk_is_so_for_writing() -> None:
    machine = qemu.Machine(replace(DOMAIN, mode=VirtualizationMode.FML), "tcg", variables="/v")
    said = " ".join(qemu.command("qemu", machine))
    assert list(qemu.files(machine))
    for opened in qemu.files(machine):
        assert f"fd={opened.descriptor},set={opened.number}" in said
        assert f"/dev/fdset/{opened.number}" in said
    assert [one.path for one in qemu.files(machine) if one.writable] == ["/v", DISK.path]
    assert all(one.path != qemu.OVMF_CODE for one in qemu.files(machine) if one.writable)


def test_a_kernel_is_a_copy_so_that_nobody_s_file_changes_hands() -> None:
    domain = replace(DOMAIN, kernel="/blobs/k", ramdisk="/blobs/i", kernel_arguments="quiet")
    machine = qemu.Machine(domain, "tcg")
    said = " ".join(qemu.command("qemu", machine))
    copies = {one.path: one.descriptor for one in qemu.files(machine) if one.copied}
    assert list(copies) == ["/blobs/k", "/blobs/i"]
    assert f"-kernel /proc/self/fd/{copies['/blobs/k']}" in said
    assert f"-initrd /proc/self/fd/{copies['/blobs/i']}" in said
    assert "/blobs" not in said


def test_an_initial_file_system_lies_where_its_kernel_is_told() -> None:
    told = replace(DOMAIN, kernel="/kernel", ramdisk="/ramdisk", kernel_arguments="quiet")
    usual = qemu.command("qemu", qemu.Machine(told, "tcg"))
    assert usual[usual.index("-initrd") + 1] == "/proc/self/fd/17"
    placed = qemu.command("qemu", qemu.Machine(told, "tcg", ramdisk_at=0x5400000))
    assert "-initrd" not in placed
    assert "loader,file=/proc/self/fd/17,addr=0x5400000,force-raw=on" in placed


def test_a_cd_and_a_readonly_volume_are_not_open_for_writing() -> None:
    domain = replace(DOMAIN, volumes=(replace(DISK, readonly=True), CD))
    assert not any(one.writable for one in qemu.files(qemu.Machine(domain, "tcg")))


def test_legacy_hardware_has_nothing_that_an_old_system_does_not_know() -> None:
    said = words(replace(DOMAIN, mode=VirtualizationMode.LEGACY, volumes=(DISK, FLOPPY, CD)))
    assert "virtio" not in said
    for part in ("-machine pc,", "ide-hd", "ide-cd", "floppy,", "e1000", "base=localtime"):
        assert part in said


def test_each_interface_has_a_mover_of_its_own_in_the_kernel_and_an_old_card_none() -> None:
    two = replace(DOMAIN, vifs=(*DOMAIN.vifs, DomainVif(host_name="nbu1x7", mac="02:16:3e:0:0:2")))
    machine = qemu.Machine(two, "kvm", vhost=True)
    descriptors = tuple(qemu.vhosts(machine))
    assert len(set(descriptors)) == 2
    said = " ".join(qemu.command("qemu", machine))
    assert [f"vhost=on,vhostfd={number}" in said for number in descriptors] == [True, True]
    assert "vhost" not in words(two)
    old = replace(two, mode=VirtualizationMode.LEGACY)
    assert not list(qemu.vhosts(qemu.Machine(old, "kvm", vhost=True)))
    assert "vhost" not in words(old, vhost=True)


def test_the_config_s_firmware_is_stronger_than_the_mode_s() -> None:
    assert "pflash" in words(replace(DOMAIN, boot_mode=BootMode.UEFI), variables="/v")
    fml = replace(DOMAIN, mode=VirtualizationMode.FML, boot_mode=BootMode.LEGACY)
    assert "pflash" not in words(fml)


CARDS = tuple(
    DomainDevice(label=f"nic{n}", type=IoType.ETHERNET, addresses=Addresses(pci=f"0000:0{n}:00.0"))
    for n in (1, 2)
)
STICKS = tuple(
    DomainDevice(label=port, type=IoType.USB_DEVICE, addresses=Addresses(usb_port=port))
    for port in ("1:1", "1:2")
)


def places(said: str, *parts: str) -> list[int]:
    """Where each stands: QEMU gives the first device the first place on its bus."""
    assert all(said.count(part) == 1 for part in parts)
    return [said.index(part) for part in parts]


def test_interfaces_come_as_they_are_listed_and_before_the_devices() -> None:
    two = (*DOMAIN.vifs, DomainVif(host_name="nbu1x7", mac="02:16:3e:00:00:02"))
    said = words(replace(DOMAIN, vifs=two, devices=CARDS))
    found = places(said, "mac=02:16:3e:00:00:01", "mac=02:16:3e:00:00:02", "id=pci0", "id=pci1")
    assert found == sorted(found)


@pytest.mark.parametrize("mode", [VirtualizationMode.PV, VirtualizationMode.LEGACY])
def test_an_order_goes_across_interfaces_and_devices(mode: VirtualizationMode) -> None:
    vif = replace(DOMAIN.vifs[0], place=2)
    other = DomainDevice(label="gpu", type=IoType.HDMI, addresses=Addresses(pci="0000:03:00.0"))
    first, last = (replace(one, place=place) for one, place in zip(CARDS, (3, 1), strict=True))
    said = words(replace(DOMAIN, mode=mode, vifs=(vif,), devices=(other, first, last)))
    found = places(said, "id=pci2", "mac=02:16:3e:00:00:01", "id=pci1", "id=pci0")
    assert found == sorted(found)


def test_a_plugged_in_system_boots_before_the_disks_only_where_that_is_told() -> None:
    domain = replace(DOMAIN, devices=STICKS, volumes=(DISK, FLOPPY))
    first = replace(domain, boot_order=BootOrder.USB)
    never = replace(domain, boot_order=BootOrder.NO_USB)
    assert [disks.first_plugged(one) for one in (domain, first, never)] == [2, 0, None]
    assert [",bootindex=0" in words(one) for one in (domain, first, never)] == [True, False, True]
    assert ",bootindex=2" in words(first)
    assert ",bootindexA=3" in words(first)
    old = replace(first, mode=VirtualizationMode.LEGACY)
    assert "isa-fdc.bootindexA=3" in words(old)
    started = replace(first, kernel="/blobs/k")
    assert disks.first_plugged(started) is None
    assert "bootindex" not in words(started)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"volumes": ()}, "no volume and no kernel"),
        ({"kernel_arguments": "quiet"}, "but no kernel"),
        ({"kernel": "no-volume-of-mine"}, "none of its volumes"),
        ({"volumes": (replace(DISK, format=ContentFormat.CONTAINER),)}, "CONTAINER"),
        ({"volumes": (DISK,) * 25}, "at most 24 fit"),
        ({"volumes": (FLOPPY, FLOPPY)}, "more than one floppy"),
        ({"volumes": (DISK,) * 5, "mode": VirtualizationMode.LEGACY}, "at most 4 fit"),
    ],
)
def test_a_machine_that_can_never_run_is_unfit(change: dict[str, object], why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        qemu.check(replace(DOMAIN, **change))


def test_the_seed_is_what_cloud_init_looks_for() -> None:
    disk = PyCdlib()
    disk.open_fp(BytesIO(make_seed("a.1.7", "box", b"#cloud-config\n")))
    assert disk.pvd.volume_identifier.strip() == b"cidata"
    found = {}
    for name in ("user-data", "meta-data"):
        content = BytesIO()
        disk.get_file_from_iso_fp(content, rr_path=f"/{name}")
        found[name] = content.getvalue()
    assert found["user-data"] == b"#cloud-config\n"
    assert found["meta-data"] == b'{"instance-id":"a.1.7","local-hostname":"box"}'


def test_user_data_of_any_size_is_not_taken() -> None:
    with pytest.raises(UnfitError, match="fit"):
        make_seed("a", "b", b"x" * (MOST_USER_DATA + 1))


@pytest.fixture
async def world() -> AsyncIterator[GuestWorld]:
    with guest_world() as made:
        try:
            yield made
        finally:
            await made.close()


@pytest.mark.root
async def test_a_guest_that_panics_leaves_its_machine_broken(
    world: GuestWorld,
) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("panic")
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    info = await hypervisor.wait_exit(domain.app)
    assert info is not None
    assert info.exit is not None
    assert (info.state.name, info.exit.code != 0) == ("BROKEN", True)


@pytest.mark.root
async def test_a_kernel_that_others_own_is_read_and_stays_theirs(world: GuestWorld) -> None:
    os.chown(world.kernel, 12345, 12345)
    world.kernel.chmod(0o400)
    before = world.kernel.stat()
    hypervisor, domain = world.hypervisor(), world.domain("run")
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await world.ready(domain.app)
    after = world.kernel.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, 12345)


@pytest.mark.root
async def test_qemu_runs_without_rights_and_without_the_node_s_network(world: GuestWorld) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run")
    await hypervisor.create(domain, b"#cloud-config\n")
    info = await hypervisor.start(domain.app)
    await until(lambda: "ready" in world.console(domain.app))
    lines = Path(f"/proc/{info.pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert fields["Uid"].split()[0] == "64301"
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    ours = Path("/proc/self/ns/net").readlink()
    assert Path(f"/proc/{info.pid}/ns/net").readlink() != ours


@pytest.mark.root
@pytest.mark.slow
async def test_a_disk_grows_by_qemu_s_hand_though_its_adapter_or_machine_began_anew(
    world: GuestWorld,
) -> None:
    disks = (world.disk(ContentFormat.QCOW2), world.disk(), world.disk(ContentFormat.QCOW2))
    domain = world.domain("run", volumes=disks)
    sized = replace(domain, volumes=tuple(replace(one, size=40 << 20) for one in disks))
    await world.hypervisor().create(domain, b"")
    running = await world.hypervisor().start(domain.app)
    for _ in range(2):
        grown = await world.hypervisor().grow(sized)
        assert grown == tuple(DiskStatus(path=one.path, size=40 << 20) for one in disks)
    world.bundle(domain.app).write_sizes({})  # as if it died before it wrote that down
    assert await world.hypervisor().grow(sized) == grown
    assert await world.hypervisor().info(domain.app) == running
    await world.hypervisor().delete(domain.app)
    for one in disks:
        kind = "qcow2" if one.format == ContentFormat.QCOW2 else "raw"
        said = subprocess.run(
            ["qemu-img", "info", "-f", kind, "--output=json", one.path],
            check=True,
            capture_output=True,
        ).stdout
        assert json.loads(said)["virtual-size"] == 40 << 20
    await world.hypervisor().create(sized, b"")
    await world.hypervisor().start(domain.app)
    assert await world.hypervisor().grow(sized) == grown, "as it finds them"


@pytest.mark.root
@pytest.mark.slow
async def test_a_machine_whose_monitor_is_silent_is_ended_all_the_same(world: GuestWorld) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run")
    await hypervisor.create(domain, b"")
    info = await hypervisor.start(domain.app)
    await world.ready(domain.app)
    os.kill(info.pid, signal.SIGSTOP)
    before = world.clock.monotonic()
    await hypervisor.stop(domain.app, graceful=60.0, forced=20.0)
    assert world.clock.monotonic() - before < 30.0
    ended = await hypervisor.info(domain.app)
    assert ended is not None
    assert (ended.state, ended.pid) == (SwState.BROKEN, 0)


@pytest.mark.root
async def test_a_machine_that_does_not_fit_into_its_memory_is_told_so(world: GuestWorld) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run", memory_kib=2048)
    domain = replace(domain, overhead_kib=4096)
    with pytest.raises(HypervisorError, match="it was killed, as what needs more memory"):
        await hypervisor.create(domain, b"")


@pytest.mark.root
async def test_a_machine_that_was_never_made_whole_leaves_nothing(world: GuestWorld) -> None:
    no_qcow2 = replace(world.disk(), format=ContentFormat.QCOW2)
    hypervisor, domain = world.hypervisor(), world.domain("run", volumes=(no_qcow2,))
    with pytest.raises(HypervisorError, match="cannot create"):
        await hypervisor.create(domain, b"")
    assert await hypervisor.list() == ()


def test_memory_of_a_real_time_guest_is_all_there_from_the_start() -> None:
    assert "prealloc" not in words(DOMAIN)
    whole = words(DOMAIN, memory=qemu.Memory.WHOLE)
    assert "memory-backend-ram,id=memory,prealloc=on,size=65536k" in whole
    assert "-machine memory-backend=memory" in whole
    huge = words(DOMAIN, memory=qemu.Memory.HUGE)
    assert "memory-backend-memfd,hugetlb=on,hugetlbsize=2097152,id=memory,prealloc=on" in huge


@pytest.mark.root
async def test_who_is_attached_types_at_the_guest_and_the_log_keeps_all(world: GuestWorld) -> None:
    hypervisor, domain = world.hypervisor(), world.domain("run")
    await hypervisor.create(domain, b"")
    await hypervisor.start(domain.app)
    await world.ready(domain.app)
    for _ in range(2):  # who leaves makes room for the next
        with await hypervisor.attach(domain.app, ConsoleKind.SERIAL) as attached:
            attached.settimeout(PATIENCE)
            attached.sendall(b"ping\r")
            heard = b""
            while b"pong" not in heard:
                heard += attached.recv(100)
    await until(lambda: world.console(domain.app).count("pong") == 2)
    with pytest.raises(UnfitError, match="no screen"):
        await hypervisor.attach(domain.app, ConsoleKind.VNC)


def as_a_service(work: Coroutine[Any, Any, socket.socket]) -> socket.socket:
    """On the event loop that services have."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@pytest.mark.root
async def test_a_screen_is_shown_to_who_is_handed_in_and_by_no_socket(world: GuestWorld) -> None:
    hypervisor, domain = world.hypervisor(), world.domain(kernel="", kernel_arguments="")
    await hypervisor.create(domain, b"")
    info = await hypervisor.start(domain.app)
    assert "unix:" not in Path(f"/proc/{info.pid}/cmdline").read_text()
    for password, offered in (("", 1), ("secret", 2)):
        screen = hypervisor.attach(domain.app, ConsoleKind.VNC, password=password)
        with await asyncio.to_thread(as_a_service, screen) as attached:
            attached.settimeout(PATIENCE)
            assert attached.recv(12) == b"RFB 003.008\n"
            attached.sendall(b"RFB 003.008\n")
            assert attached.recv(2) == bytes((1, offered))  # one kind: none, or VNC's own
    assert "secret" not in Path(f"/proc/{info.pid}/cmdline").read_text()
