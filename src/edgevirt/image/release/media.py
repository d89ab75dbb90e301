"""What is given out of a build: disks that hold the root image, to run or to install it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from edgevirt.image.build import PACKAGE, Build, code_of
from edgevirt.image.cache import Done, Inputs, hash_files
from edgevirt.image.disks import grub
from edgevirt.image.disks.iso import make_iso
from edgevirt.image.disks.raw import Filling, make_disk
from edgevirt.model.baseos import SlotState
from edgevirt.model.disk import ENVIRONMENT, INSTALLER_GUID, MIB, TAIL_ALIGN, TAIL_SIZE, Label
from edgevirt.model.installation import Carried

_CD_INVENTORY: Final = 5 * MIB
"""A CD keeps no record; a stick that its image was written to does."""
_ON_A_CD: Final = """\
This installs {version} on a machine that is started from it, by UEFI or legacy BIOS.\r
What a node needs to know is put into the image with `edgevirt image configure`, before it is\r
written to a CD or a stick.\r
"""


def live(build: Build) -> Done:
    """The raw disk: what is missing on it is made at the first boot."""
    image, boot = build.root()[0], build.grub()
    inputs: Inputs = {"root": image.key, "grub": boot.key, **_disk_code()}

    def make(out: Path) -> None:
        fillings = {
            Label.BIOS: Filling(),
            Label.ESP: Filling(files=esp_files(boot.path)),
            Label.IMGA: Filling(image=image.path),
            Label.CONFIG: Filling(),
        }
        make_disk(fillings, build.tools(), out, boot.path)

    return build.cache.step("live", inputs, make)


def installer(build: Build) -> Done:
    """The raw disk that installs: the same boot loader, and the root image that it brings."""
    (image, _), boot = build.root(), build.grub()
    inputs: Inputs = {"root": image.key, "grub": boot.key, **_disk_code()}

    def make(out: Path) -> None:
        make_disk(_installing(build), build.tools(), out, boot.path, INSTALLER_GUID)

    return build.cache.step("installer", inputs, make)


def installer_iso(build: Build) -> Done:
    """The same as the image of a CD."""
    (image, version), boot = build.root(), build.grub()
    inputs: Inputs = {
        "root": image.key,
        "grub": boot.key,
        **_disk_code("disks/iso", "disks/iso9660"),
    }
    inputs |= {"table": hash_files(PACKAGE / "model/gpt.py")}

    def make(out: Path) -> None:
        files = {"README.TXT": _ON_A_CD.format(version=version).encode()}
        fillings = _installing(build, inventory=_CD_INVENTORY)
        make_iso(fillings, build.tools(), out, boot.path, INSTALLER_GUID, files)

    return build.cache.step("installer-iso", inputs, make)


def _installing(build: Build, inventory: int = 0) -> dict[Label, Filling]:
    """What a medium that installs holds. `inventory`: bytes; 0: as usual."""
    image, version = build.root()
    size = image.path.stat().st_size
    carried = Carried(version, size, build.sha256(image))
    tail = msgspec.json.encode(carried).ljust(TAIL_SIZE)
    room = -(-(size + TAIL_ALIGN + TAIL_SIZE) // MIB) * MIB
    return {
        Label.BIOS: Filling(),
        Label.ESP: Filling(files=esp_files(build.grub().path)),
        Label.INSTALLER: Filling(image=image.path, tail=tail, size=room),
        Label.CONFIG: Filling(),
        Label.INVENTORY: Filling(size=inventory),
    }


def esp_files(boot: Path) -> dict[str, bytes | Path]:
    """`boot`: what `make_grub` made."""
    block = grub.environment_block(SlotState.ACTIVE, SlotState.UNUSED)
    programs = {f"EFI/BOOT/{path.name}": path for path in sorted(boot.glob("*.EFI"))}
    return {ENVIRONMENT: block, **programs}


def _disk_code(*modules: str) -> Inputs:
    """This file among it, and the layout of disks."""
    return {
        "layout": hash_files(PACKAGE / "model/disk.py"),
        **code_of("release/media", "disks/raw", "disks/grub", *modules),
    }
