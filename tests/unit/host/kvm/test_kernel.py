"""What is a kernel to a virtual machine, and what is told of a file that is none."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevirt.host.hypervisor import HypervisorError, UnfitError
from edgevirt.host.kvm import kernel
from edgevirt.host.kvm.kernel import Form, read_form
from tests.worlds.guest import unikernel

LINUX = bytes(0x202) + b"HdrS" + bytes(100)
EFI = b"MZ" + bytes(600)


def header(flags: int = 0, magic: int = 0x1BADB002) -> bytes:
    return struct.pack("<III", magic, flags, -(magic + flags) & 0xFFFFFFFF) + bytes(20)


def elf(*, wide: bool = False, machine: int = 3, note: bytes = b"") -> bytes:
    """With one segment, of notes."""
    begin = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    if wide:
        made = begin + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        return made + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4) + note
    made = begin + struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return made + struct.pack("<IIIIIIII", 4, 84, 0, 0, len(note), len(note), 4, 4) + note


def note(name: bytes = b"Xen\0", kind: int = 18) -> bytes:
    return (
        struct.pack("<III", len(name), 4, kind)
        + name.ljust(-(-len(name) // 4) * 4, b"\0")
        + b"addr"
    )


def form(folder: Path, content: bytes) -> Form:
    path = folder / "kernel"
    path.write_bytes(content)
    return read_form(path)


@pytest.mark.parametrize(
    ("content", "is_form"),
    [
        (LINUX, Form.LINUX),
        (EFI, Form.EFI),
        (elf(note=note()), Form.PVH),
        (elf(wide=True, machine=62, note=note(b"GNU\0", 3) + note()), Form.PVH),
        (elf() + header(), Form.MULTIBOOT),
        (elf(wide=True, machine=62) + header(1 << 16), Form.MULTIBOOT),
        (bytes(128) + header(1 << 16), Form.MULTIBOOT),
    ],
)
def test_each_form_is_known_by_what_qemu_knows_it_by(
    tmp_path: Path, content: bytes, is_form: Form
) -> None:
    assert form(tmp_path, content) is is_form


def test_the_unikernels_of_the_catalog_are_what_their_page_says(tmp_path: Path) -> None:
    assert form(tmp_path, unikernel()) is Form.PVH
    assert form(tmp_path, unikernel("multiboot")) is Form.MULTIBOOT


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "none that a machine starts"),
        (b"\x1f\x8b" + bytes(9000), "none that a machine starts: Linux's own form"),
        (elf(note=note(kind=17)), "neither a multiboot header nor a note"),
        (elf(note=note(b"GNU\0")), "neither a multiboot header nor a note"),
        (elf()[:40], "ends before its header does"),
        (elf(wide=True, machine=62, note=note()) + header(), "no ELF file of 32 bits"),
        (bytes(128) + header(), "says nowhere where it is to lie"),
        (struct.pack("<IIII", 0xE85250D6, 0, 16, -(0xE85250D6 + 16) & 0xFFFFFFFF), "multiboot 2"),
        (bytes(8192) + header(), "none that a machine starts"),
    ],
)
def test_what_is_no_kernel_is_told_before_anything_starts(
    tmp_path: Path, content: bytes, why: str
) -> None:
    with pytest.raises(UnfitError, match=why):
        form(tmp_path, content)


def test_a_file_that_is_gone_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="cannot be read"):
        read_form(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "uefi", "why"),
    [
        (EFI, False, "starts by EFI, and its machine has a BIOS"),
        (elf() + header(), True, "starts by multiboot, which UEFI cannot do"),
        (elf(note=note()), True, "starts by PVH, which UEFI cannot do"),
    ],
)
def test_a_firmware_that_cannot_start_it_is_told(
    tmp_path: Path, content: bytes, uefi: bool, why: str
) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(content)
    kernel.check(path, uefi=not uefi)
    with pytest.raises(UnfitError, match=why):
        kernel.check(path, uefi=uefi)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"", elf()[:60], elf(wide=True)[:100], b"MZ"]))
def test_whatever_a_file_holds_it_is_a_kernel_or_refused(
    tmp_path: Path, rest: bytes, begin: bytes
) -> None:
    with suppress(UnfitError):
        assert isinstance(form(tmp_path, begin + rest), Form)
