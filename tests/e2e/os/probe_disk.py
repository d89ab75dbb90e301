"""A disk with our boot loader, kernel and initial file system, and a root that only tells.

Its root image is small, so that a boot takes seconds: it prints what it was booted with, and what
the TPM holds, and switches the machine off.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgevirt.host.disk.table import read_table
from edgevirt.image.build import Build, open_build
from edgevirt.image.disks.iso import make_iso
from edgevirt.image.disks.raw import Filling, add_files, make_disk
from edgevirt.image.machine import Firmware, MachineSpec, machine
from edgevirt.image.parts.hypervisor import IMAGE
from edgevirt.image.parts.root import squash
from edgevirt.image.recipe import Arch, Variant
from edgevirt.image.release.measure import Booted, expect
from edgevirt.image.release.media import esp_files
from edgevirt.model.disk import ENVIRONMENT, INSTALLER_GUID, Label
from edgevirt.model.gpt import Entry

CACHE = Path(os.environ.get("EDGEVIRT_IMAGE_CACHE", "build/image/cache"))
PATIENCE = 180.0
"""Seconds for one boot on a machine that is busy; a quiet one needs ten."""
TELL = """\
#!/bin/busybox sh
B=/bin/busybox
$B echo "TOLD cmdline $($B cat /proc/cmdline)"
for number in 4 8 9 13; do
  $B echo "TOLD register $number $($B cat /sys/class/tpm/tpm0/pcr-sha256/$number 2>/dev/null)"
done
$B echo "TOLD root $($B sed -n 's, / squashfs.*,,p' /proc/mounts)"
$B echo "TOLD memory $($B grep MemTotal /proc/meminfo)"
$B echo "TOLD all"
$B sleep 1
$B poweroff -f
"""


@dataclass(frozen=True)
class Probe:
    """`image`: its root. `expected`: what the builder says of a TPM's registers."""

    build: Build
    disk: Path
    image: Path
    expected: Mapping[str, list[str]]

    def place(self, disk: Path, label: Label) -> Entry:
        return read_table(disk).get(label)

    def copy(self, path: Path) -> Path:
        shutil.copyfile(self.disk, path)
        return path

    def put(self, disk: Path, label: Label, files: Mapping[str, bytes | Path]) -> None:
        add_files(disk, self.place(disk, label).start, files, self.build.tools())

    def set_states(self, disk: Path, block: bytes) -> None:
        self.put(disk, Label.ESP, {ENVIRONMENT: block})

    def states(self, disk: Path) -> str:
        start = self.place(disk, Label.ESP).start
        return (
            self.build.tools().run("mtype", "-i", f"{disk}@@{start}", f"::{ENVIRONMENT}").decode()
        )


def make_probe(folder: Path, variant: Variant = Variant.KVM) -> Probe:
    build = open_build(variant, Arch.AMD64, CACHE, ())
    tree = folder / "tree"
    for name in ("boot", "EFI/BOOT", "sbin", "bin", "proc", "sys", "dev", "run", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy(build.kernel().path / "boot/vmlinuz", tree / "boot")
    shutil.copy(build.initrd().path, tree / "boot/initrd.img")
    hypervisor = b""
    if (xen := build.hypervisor()) is not None:
        shutil.copy(xen.path / IMAGE, tree / IMAGE)
        hypervisor = (tree / IMAGE).read_bytes()
    shutil.copy(build.base().path / "usr/bin/busybox", tree / "bin/busybox")
    (tree / "EFI/BOOT/grub.cfg").write_text(build.stage2())
    (tree / "sbin/init").write_text(TELL)
    (tree / "sbin/init").chmod(0o755)
    image, disk = folder / "root.squashfs", folder / "probe.raw"
    squash(tree, build.tools(), build.settings.epoch, image)
    boot = build.grub().path
    fillings = {
        Label.BIOS: Filling(),
        Label.ESP: Filling(files=esp_files(boot)),
        Label.IMGA: Filling(image=image),
        Label.IMGB: Filling(image=image),
        Label.CONFIG: Filling(),
    }
    make_disk(fillings, build.tools(), disk, boot)
    booted = Booted(
        loader=(boot / "BOOTX64.EFI").read_bytes(),
        stage2=build.stage2().encode(),
        kernel=(tree / "boot/vmlinuz").read_bytes(),
        initrd=(tree / "boot/initrd.img").read_bytes(),
        root=hashlib.sha256(image.read_bytes()).hexdigest(),
        hypervisor=hypervisor,
    )
    return Probe(build, disk, image, expect(booted))


def make_cd(probe: Probe, path: Path) -> Path:
    """With the same root as an installer's."""
    boot = probe.build.grub().path
    fillings = {
        Label.BIOS: Filling(),
        Label.ESP: Filling(files=esp_files(boot)),
        Label.INSTALLER: Filling(image=probe.image),
        Label.CONFIG: Filling(),
    }
    make_iso(fillings, probe.build.tools(), path, boot, INSTALLER_GUID, {})
    return path


def boot(
    state: Path,
    disk: Path,
    firmware: Firmware,
    *,
    tpm: bool = False,
    patience: float = PATIENCE,
    **options: Any,
) -> str:
    """Boots the disk until it has told all. Returns what this start printed.

    `patience`: seconds. `options`: of the MachineSpec.
    """
    spec = MachineSpec(
        state=state,
        disks=(disk,),
        memory=512,
        firmware=firmware,
        tpm=tpm,
        watchdog=False,
    )
    spec = replace(spec, **options)
    before = spec.console.stat().st_size if spec.console.exists() else 0
    with machine(spec) as running:
        running.wait(patience)
    printed = spec.console.read_bytes()[before:].decode(errors="replace")
    assert "TOLD all" in printed, f"the machine did not come up:\n{printed[-2000:]}"
    return printed


def slot_of(printed: str) -> str:
    found = re.search(r"TOLD cmdline .*edgevirt\.slot=(\w+)", printed)
    assert found
    return found[1]


def root_of(printed: str) -> str:
    """The device of its root image."""
    found = re.search(r"TOLD root (\S+)", printed)
    assert found
    return found[1]


def registers(printed: str) -> dict[str, str]:
    return {n: v.lower() for n, v in re.findall(r"TOLD register (\d+) (\w+)", printed)}
