"""A container in a virtual machine, as its guest is told of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edgevirt.host.hypervisor import Exit, HypervisorError, UnfitError
from edgevirt.host.kvm.guest import GuestFiles, Insides, make_insides, read_end
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.domain import BootMode, Domain, DomainVolume, VirtualizationMode
from edgevirt.model.hardware import Addresses, DomainDevice, IoType, MachineDevices, UsbDevice
from edgevirt.model.ids import AppId

APP = AppId("7f8e3c1a-0000-4000-8000-000000000001")
IMAGE = ImageConfig(
    entrypoint=("/bin/server",), cmd=("--port", "80"), env=("A=1", "B=2"), workdir="srv", user="app"
)


@pytest.fixture
def files(tmp_path: Path) -> GuestFiles:
    for name in ("vmlinux", "initrd.img", "vmlinuz", "general.img", "drivers.img"):
        (tmp_path / name).touch()
    return GuestFiles.below(tmp_path)


def root(**more: Any) -> DomainVolume:
    fields = {"layers": ("/layers/aa", "/layers/bb"), "packed": "/packed/x.squashfs", **more}
    return DomainVolume(path="/volumes/root", format=ContentFormat.CONTAINER, **fields)


def data(mount_dir: str, **more: Any) -> DomainVolume:
    fields = {"format": ContentFormat.RAW, **more}
    return DomainVolume(path=f"/volumes{mount_dir}", mount_dir=mount_dir, **fields)


def domain(*volumes: DomainVolume, **more: Any) -> Domain:
    fields = {"memory_kib": 262_144, "image": IMAGE, "mode": VirtualizationMode.FML, **more}
    return Domain(
        app=APP,
        name=f"{APP}.1.1",
        display_name="test",
        activate=True,
        volumes=volumes or (root(),),
        **fields,
    )


def device(label: str, **addresses: str) -> DomainDevice:
    return DomainDevice(label=label, type=IoType.COM, addresses=Addresses(**addresses))


def given(insides: Insides) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(insides.given)) as tar:
        opened = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in opened.items() if file is not None}


def plan(insides: Insides) -> list[list[str]]:
    return [line.split("\t") for line in given(insides)["plan"].decode().splitlines()]


def test_the_image_is_read_only_and_what_is_written_is_the_volume_s(files: GuestFiles) -> None:
    insides = make_insides(domain(), b"", files)
    assert insides.serials == ("image0", "kept0")
    image, kept = insides.domain.volumes
    assert (image.path, image.readonly) == ("/packed/x.squashfs", True)
    assert (kept.path, kept.readonly) == ("/volumes/root", False)
    assert {one.format for one in insides.domain.volumes} == {ContentFormat.RAW}
    assert ["root", "image0", "kept0", "rw", "aa bb"] in plan(insides)


def test_its_firmware_is_our_own_choice(files: GuestFiles) -> None:
    made = make_insides(domain(boot_mode=BootMode.UEFI), b"", files).domain
    assert (made.mode, made.boot_mode) == (VirtualizationMode.PV, BootMode.UNSPECIFIED)
    assert (made.kernel, made.ramdisk) == (str(files.kernel), str(files.initrd))


def test_no_word_of_the_app_is_in_the_kernel_s_arguments(files: GuestFiles) -> None:
    made = make_insides(domain(), b"SECRET=hush\n", files)
    assert "hush" not in made.domain.kernel_arguments
    assert b"SECRET=hush\0" in given(made)["app"]


def test_the_app_is_the_image_s_with_what_user_data_says(files: GuestFiles) -> None:
    made = make_insides(domain(), b"B=3\nEVE_ECO_CMD=/bin/other 'a b'\n", files)
    user, directory, count, *rest = given(made)["app"].decode().split("\0")
    assert (user, directory, rest.pop()) == ("app", "/srv", "")
    variables, words = rest[: int(count)], rest[int(count) :]
    assert {"A=1", "B=3"} < set(variables)
    assert words == ["/bin/other", "a b"]


def test_volumes_are_mounted_outer_ones_first_and_by_their_own_disk(files: GuestFiles) -> None:
    volumes = (root(), data("/data/inner", readonly=True), data("/data"))
    made = make_insides(domain(*volumes), b"", files)
    assert [line for line in plan(made) if line[0] == "volume"] == [
        ["volume", "volume2", "rw", "/data"],
        ["volume", "volume1", "ro", "/data/inner"],
    ]
    inner = made.domain.volumes[made.serials.index("volume1")]
    assert (inner.path, inner.readonly) == ("/volumes/data/inner", True)


def test_a_further_image_is_layers_of_its_own(files: GuestFiles) -> None:
    more = root(mount_dir="/more", readonly=True)
    made = make_insides(domain(root(), more), b"", files)
    assert ["layers", "image1", "-", "ro /more", "aa bb"] in plan(made)
    assert made.serials == ("image0", "kept0", "image1"), "what nobody writes needs no disk"
    writable = make_insides(domain(root(), root(mount_dir="/more")), b"", files)
    assert ["layers", "image1", "kept1", "rw /more", "aa bb"] in plan(writable)


def test_a_layer_that_is_there_twice_counts_where_it_is_higher(files: GuestFiles) -> None:
    twice = root(layers=("/layers/aa", "/layers/bb", "/layers/aa"))
    assert plan(make_insides(domain(twice), b"", files))[-1][-1] == "bb aa"


@pytest.mark.parametrize(("user_data", "stays"), [(b"", False), (b"=1", True), (b"=0", False)])
def test_a_machine_stays_on_behind_its_app_only_when_asked(
    files: GuestFiles, user_data: bytes, stays: bool
) -> None:
    line = b"EVE_CONTAINER_NO_POWEROFF" + user_data if user_data else b""
    assert (["stay", "1"] in plan(make_insides(domain(), line, files))) is stays


def test_serial_ports_are_called_in_the_guest_as_on_the_node(files: GuestFiles) -> None:
    devices = (device("line-b", serial="/dev/ttyS1"), device("line-a", serial="/dev/ttyUSB0"))
    made = make_insides(domain(devices=devices), b"", files)
    assert [line for line in plan(made) if line[0] == "device"] == [
        ["device", "/dev/ttyS1", "4", "64"],
        ["device", "/dev/ttyUSB0", "4", "65"],
    ]
    assert b"EDGEVIRT_DEVICE_LINE_A=/dev/ttyUSB0\0" in given(made)["app"]
    assert "8250.nr_uarts=2" in made.domain.kernel_arguments.split()


@pytest.mark.parametrize(
    "more",
    [
        {"devices": (device("stick", usb_port="1:2"),)},
        {"devices": (device("card", pci="0000:03:00.0"),)},
        {"devices": (device("card", pci="0000:03:00.0"),), "tpm": True},
    ],
)
def test_a_machine_with_devices_starts_with_a_kernel_that_knows_them(
    files: GuestFiles, more: dict[str, Any]
) -> None:
    made = make_insides(domain(**more), b"", files)
    assert made.domain.kernel == str(files.general_kernel)
    assert made.domain.ramdisk == str(files.general_initrd)
    drivers = made.domain.volumes[made.serials.index("drivers")]
    assert (drivers.path, drivers.readonly) == (str(files.drivers), True)
    assert made.ramdisk_at == 0


def test_a_tpm_alone_costs_no_larger_kernel(files: GuestFiles) -> None:
    files.initrd.write_bytes(bytes(5000))
    made = make_insides(domain(tpm=True, memory_kib=98_304), b"", files)
    assert made.domain.kernel == str(files.kernel)
    assert "drivers" not in made.serials
    at = f"{made.ramdisk_at:#x}"
    words = made.domain.kernel_arguments.split()
    assert {f"initrdmem={at},5000", f"memmap=8K${at}"} < set(words)
    assert make_insides(domain(), b"", files).ramdisk_at == 0


def test_a_machine_with_serial_ports_alone_starts_with_the_small_kernel(files: GuestFiles) -> None:
    made = make_insides(domain(devices=(device("line", serial="/dev/ttyS1"),)), b"", files)
    assert made.domain.kernel == str(files.kernel)
    assert "drivers" not in made.serials


def test_the_app_waits_for_what_is_plugged_in_and_for_nothing_else(files: GuestFiles) -> None:
    stick = UsbDevice(port="1:2", vendor=1, product=2, node="/dev/bus/usb/001/004")
    devices = (device("stick", usb_port="1:2"), device("other", usb_port="1:3"))
    made = make_insides(domain(devices=devices), b"", files, MachineDevices(usb=(stick,)))
    assert ["usb", "1"] in plan(made)
    assert "usb" not in {
        line[0] for line in plan(make_insides(domain(devices=devices), b"", files))
    }


def test_a_device_is_named_as_the_node_does_by_where_it_will_be(files: GuestFiles) -> None:
    devices = (
        device("line", serial="/dev/ttyS3"),
        device("front left/../x", usb_port="1:2"),
        device(".card", pci="0000:03:00.0"),
        device("stick", usb_product="046d:c52b"),
    )
    made = given(make_insides(domain(devices=devices), b"", files))
    assert made["names"].decode().splitlines() == [
        "usb-1\tfront_left_.._x",
        "usb-2\tstick",
        "pci-0f\t_card",
    ]


def test_serial_ports_are_numbered_among_themselves(files: GuestFiles) -> None:
    devices = (device("stick", usb_port="1:2"), device("line", serial="/dev/ttyS3"))
    made = make_insides(domain(devices=devices), b"", files)
    assert ["device", "/dev/ttyS3", "4", "64"] in plan(made)


def test_files_of_user_data_are_written_below_what_is_mounted(files: GuestFiles) -> None:
    config = b"#cloud-config\nwrite_files: [{path: /etc/a b, content: text, permissions: '0600'}]\n"
    made = make_insides(domain(root(), data("/etc")), config, files)
    verbs = [line[0] for line in plan(made)]
    assert verbs.index("root") < verbs.index("file") < verbs.index("volume")
    assert ["file", "file0", "600", "/etc/a b"] in plan(made)
    assert given(made)["file0"] == b"text"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (domain(memory_kib=65_536), "too little"),
        (domain(root(packed="")), "not there as a disk"),
        (domain(root(), data("/x", format=ContentFormat.QCOW2)), "QCOW2"),
        (domain(root(), data("relative")), "not a directory's full path"),
        (domain(root(), data("/a\tb")), "not a name to print"),
        (domain(kernel="/kernel"), "a kernel of its own"),
        (
            domain(devices=(device("stick", usb_port="1:2"),), memory_kib=98_304),
            "too little.*with devices",
        ),
        (domain(devices=(device("COM1", serial="/dev/a\nb"),)), "no device's name"),
        (domain(image=ImageConfig()), "names no command"),
        (domain(image=ImageConfig(cmd=("a\0b",))), "a NUL"),
    ],
)
def test_what_can_never_run_is_unfit(files: GuestFiles, made: Domain, why: str) -> None:
    with pytest.raises(UnfitError, match=why):
        make_insides(made, b"", files)


def test_a_node_without_the_guest_s_kernel_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="edgevirt image guest") as refused:
        make_insides(domain(), b"", GuestFiles.below(tmp_path))
    assert not isinstance(refused.value, UnfitError)  # it is tried again: somebody may make it


def test_a_node_of_before_can_run_containers_without_devices(files: GuestFiles) -> None:
    files.drivers.unlink()
    make_insides(domain(), b"", files)
    with pytest.raises(HypervisorError, match=r"with devices.*edgevirt image guest"):
        make_insides(domain(devices=(device("stick", usb_port="1:2"),)), b"", files)


def test_a_volume_of_before_is_told_what_helps(files: GuestFiles, tmp_path: Path) -> None:
    old = DomainVolume(path=str(tmp_path), format=ContentFormat.CONTAINER, packed="/packed/x")
    with pytest.raises(UnfitError, match="purge"):
        make_insides(domain(old), b"", files)


@pytest.mark.parametrize(
    ("record", "end"),
    [
        (b"exit 3 0\n\n", Exit(3)),
        (b"exit 137 2\n", Exit(137, out_of_memory=True)),
        (
            b"exit 127 0\ncannot start x:  no such\n" + bytes(100),
            Exit(127, why="cannot start x: no such"),
        ),
        (b"exit 126 0\n\x1b[2J", Exit(126)),
        (b"exit 1 0\n" + b"x" * 5000, Exit(1, why="x" * 300)),
        (bytes(4096), None),
        (b"", None),
        (b"exit -1 0", None),
        (b"exit 99999 0", None),
        (b"exit 1", None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_last_words_are_believed_only_in_their_form(record: bytes, end: Exit | None) -> None:
    assert read_end(record) == end
