"""How a machine is started from an image's parts; the rest is tried for real, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgevirt.image.eci.parts import DiskFile, MachineParts
from edgevirt.image.eci.run import CannotRun, Wish, machine_command
from edgevirt.model.eci import ContentFormat, Declared, Wants

ROOT = DiskFile(Path("/images/a,b.qcow2"), ContentFormat.QCOW2)


def command(wish: Wish | None = None, **parts: Any) -> str:
    found = MachineParts(**{"declared": Declared(), "root": ROOT, **parts})
    return " ".join(machine_command(found, wish or Wish(), Path("/s/vars"), "tcg"))


def wanting(**wants: Any) -> Declared:
    return Declared(cmdline="console=ttyS0", wants=Wants(**wants))


def test_the_root_disk_is_never_written_to_and_further_ones_are_read_only() -> None:
    disks = (DiskFile(Path("/d.raw"), ContentFormat.RAW), DiskFile(Path("/i"), ContentFormat.ISO))
    said = command(disks=disks)
    assert "format=qcow2,file=/images/a,,b.qcow2,snapshot=on" in said
    assert "format=raw,file=/d.raw,readonly=on" in said
    assert "format=raw,file=/i,readonly=on -device ide-cd" in said


def test_a_machine_gets_what_its_image_wants_unless_somebody_says_otherwise() -> None:
    declared = wanting(cpus=3, memory=256 << 20)
    assert "-smp 3 -m 256" in command(declared=declared)
    assert "-smp 2 -m 1024" in command(Wish(1 << 30, 2), declared=declared)
    assert "-smp 1 -m 512" in command()


def test_a_kernel_is_started_with_its_command_line_and_no_disk() -> None:
    kernel: dict[str, Any] = {"kernel": Path("/k"), "initrd": Path("/i"), "root": None}
    said = command(declared=wanting(), **kernel)
    assert "-kernel /k -append console=ttyS0 -initrd /i" in said
    assert "-drive" not in said


def test_forwards_are_of_the_loopback_alone() -> None:
    assert "hostfwd=tcp:127.0.0.1:8080-:80" in command(Wish(forwards={8080: 80}))


def test_an_old_machine_has_old_hardware_and_a_new_one_its_firmware() -> None:
    old = command(declared=wanting(virtualization="Legacy"))
    assert "-machine pc" in old
    assert "ide-hd" in old
    assert "e1000" in old
    assert "virtio" not in old
    assert "OVMF_CODE" in command(declared=wanting(virtualization="FML"))


def test_what_qemu_has_no_format_for_is_refused() -> None:
    with pytest.raises(CannotRun, match="a disk of format OVA"):
        command(root=DiskFile(Path("/a.ova"), ContentFormat.OVA))


def test_somebody_s_word_on_virtualization_is_stronger_than_the_image_s() -> None:
    assert "-machine pc" in command(Wish(virtualization="Legacy"))
    with pytest.raises(CannotRun, match="the image is a machine"):
        command(Wish(virtualization="None"))
