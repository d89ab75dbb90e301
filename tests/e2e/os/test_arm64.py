"""The image for arm64 is built on this machine and boots on an emulated one, until the node starts.

Some three minutes from a cache of packages: one to build it, two to boot it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgevirt.image.build import open_build
from edgevirt.image.machine import MachineSpec, machine
from edgevirt.image.recipe import Arch, Variant
from edgevirt.image.release import media
from tests.e2e.system import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1800)]

CACHE = Path(os.environ.get("EDGEVIRT_IMAGE_CACHE", "build/image/cache"))
BOOT = 600.0


def test_the_arm64_image_boots_and_starts_the_node(tmp_path: Path) -> None:
    build = open_build(Variant.KVM, Arch.ARM64, CACHE, ())
    said = f"edgevirt: {build.root()[1]} in slot IMGA"
    disk = tmp_path / "disk.raw"
    shutil.copyfile(media.live(build).path, disk)
    os.truncate(disk, 2 << 30)
    spec = MachineSpec(
        state=tmp_path / "machine", disks=(disk,), arch=Arch.ARM64, watchdog=False, tpm=False
    )
    with machine(spec) as running:
        eventually("process 1 speaks", lambda: said in running.printed(), BOOT, every=0.5)
        eventually(
            "the node starts",
            lambda: "the machine is ready; starting the node" in running.printed(),
            BOOT,
            every=0.5,
        )
        printed = running.printed()
    assert "(P3): made" in printed
