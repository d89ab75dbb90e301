"""What a TPM holds after a boot, computed: as a real boot under OVMF with swtpm showed it."""

from __future__ import annotations

import hashlib
import struct

import pytest

from edgevirt.image.release.measure import Booted, MeasureError, authenticode, expect

STAGE2 = """\
# a comment is no command
set hv_dom0_mem_settings="800M"
set hv_dom0_cpu_settings=""
set hv_eve_mem_settings="650M"
set hv_eve_cpu_settings=""
set hv_ctrd_mem_settings="400M"
set hv_ctrd_cpu_settings=""
set dom0_console="console=tty0 console=ttyS0,115200"
set dom0_extra_args=""
if [ -n "$overrides" ]; then source "$overrides"; fi
linux /boot/vmlinuz edgevirt.slot=$slot $dom0_console panic=1 loglevel=4 \
hv_dom0_mem_settings=$hv_dom0_mem_settings hv_dom0_cpu_settings=$hv_dom0_cpu_settings \
hv_eve_mem_settings=$hv_eve_mem_settings hv_eve_cpu_settings=$hv_eve_cpu_settings \
hv_ctrd_mem_settings=$hv_ctrd_mem_settings hv_ctrd_cpu_settings=$hv_ctrd_cpu_settings \
$dom0_extra_args
initrd /boot/initrd.img
boot
"""
REGISTER_8 = "23399de6b10ba35a7f628310c070a03268a4c0b21172d484e77e00cc8ab54bb6"
"""Read from a TPM after GRUB 2.12 had run this in slot IMGA."""
ROOT = "c7bec68c07f3e6393f25f02a1006c4c61473d5400a3620808a6a5f79e1e1a4e5"
REGISTER_13 = "e85ac476fb4d10db93160baaa0af40c2a070135f145b01920edf22b58ccee38a"


def program(code: bytes = b"code", checksum: int = 0, signature: bytes = b"") -> bytes:
    """The least that is a PE program of 64 bits."""
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0" + bytes(20)
    optional = bytearray(struct.pack("<H", 0x20B).ljust(240, b"\0"))
    struct.pack_into("<I", optional, 64, checksum)
    end = len(head) + len(optional) + len(code)
    if signature:
        struct.pack_into("<II", optional, 144, end, len(signature))
    return head + bytes(optional) + code + signature


def booted(**changed: bytes) -> Booted:
    parts = {"loader": program(), "kernel": program(b"kernel"), "initrd": b"initrd"}
    return Booted(stage2=STAGE2.encode(), root=ROOT, **{**parts, **changed})


def test_commands_are_measured_as_grub_measures_them() -> None:
    assert expect(booted())["8"][0] == REGISTER_8


def test_the_root_image_is_measured_as_the_initial_file_system_does() -> None:
    assert expect(booted())["13"] == [REGISTER_13]


def test_the_slots_differ_where_their_name_is_measured_and_nowhere_else() -> None:
    found = expect(booted())
    assert {register: len(set(values)) for register, values in found.items()} == {
        "4": 1,
        "8": 2,
        "9": 2,
        "13": 1,
    }


@pytest.mark.parametrize(
    ("part", "register"), [("loader", "4"), ("kernel", "4"), ("kernel", "9"), ("initrd", "9")]
)
def test_a_changed_part_shows_in_its_register(part: str, register: str) -> None:
    changed = booted(**{part: program(b"another")})
    assert expect(changed)[register] != expect(booted())[register]


STAGE2_XEN = """\
set hv_dom0_mem_settings="dom0_mem=800M,max:800M"
set hv_dom0_cpu_settings=""
if [ -n "$overrides" ]; then
  source "$overrides"
  # bare values
  if [ -n "$bare" ]; then set hv_dom0_cpu_settings="dom0_max_vcpus=$bare"; fi
fi
multiboot2 /boot/xen.gz console=com1,vga $hv_dom0_mem_settings $hv_dom0_cpu_settings
module2 /boot/vmlinuz edgevirt.slot=$slot panic=1
module2 /boot/initrd.img
boot
"""


def extended(*contents: bytes) -> str:
    value = bytes(32)
    for content in contents:
        value = hashlib.sha256(value + hashlib.sha256(content).digest()).digest()
    return value.hex()


def test_a_hypervisor_is_a_file_that_grub_read_and_its_options_are_a_text() -> None:
    stage2 = STAGE2_XEN.encode()
    found = expect(Booted(program(), stage2, program(b"kernel"), b"initrd", ROOT, b"xen, packed"))
    assert found["9"] == [extended(stage2, b"xen, packed", program(b"kernel"), b"initrd")] * 2
    options = b"console=com1,vga dom0_mem=800M,max:800M"
    assert found["8"][1] == extended(
        b"source /EFI/BOOT/grub.cfg",
        b"set hv_dom0_mem_settings=dom0_mem=800M,max:800M",
        b"set hv_dom0_cpu_settings=",
        b"[ -n  ]",
        b"multiboot2 /boot/xen.gz " + options,
        options,
        b"module2 /boot/vmlinuz edgevirt.slot=IMGB panic=1",
        b"edgevirt.slot=IMGB panic=1",
        b"module2 /boot/initrd.img",
        b"",
        b"boot",
    )


def test_firmware_starts_no_kernel_under_a_hypervisor() -> None:
    with_xen, without = (
        expect(Booted(program(), STAGE2_XEN.encode(), kernel, b"initrd", ROOT, b"xen"))
        for kernel in (program(b"kernel"), program(b"another"))
    )
    assert with_xen["4"] == without["4"]
    assert with_xen["9"] != without["9"]


def test_a_signature_or_a_checksum_changes_no_measurement_and_code_does() -> None:
    plain = authenticode(program())
    assert authenticode(program(checksum=7)) == plain
    assert authenticode(program(b"edoc")) != plain
    signed = authenticode(program(signature=b"signed by somebody"))
    assert signed == authenticode(program(signature=b"signed by another."))


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF".ljust(512, b"\0")])
def test_what_firmware_could_not_start_is_told(content: bytes) -> None:
    with pytest.raises(MeasureError, match="firmware"):
        authenticode(content)
