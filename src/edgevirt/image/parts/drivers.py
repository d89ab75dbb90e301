"""Drivers of real devices, for a machine of a container's that is given some: a disk of modules.

A kernel for clouds has no USB at all. A machine with devices of the node therefore starts with
Debian's general kernel, which the OS image has anyhow, and finds the drivers on a squashfs of its
own: what is never loaded then takes no memory. Left out is what needs firmware or a userland that a
container has not: WLAN, graphics, sound, InfiniBand, controllers of disk arrays.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from edgevirt.image.parts.modules import choose, parse_dependencies
from edgevirt.image.programs import Tools

_INDEXES: Final = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
_LEVEL: Final = "19"

DRIVERS: Final = (
    *("drivers/usb/core/*", "drivers/usb/host/*", "drivers/usb/storage/*", "drivers/usb/serial/*"),
    *("drivers/usb/class/*", "drivers/usb/misc/*", "drivers/net/usb/*", "drivers/media/usb/uvc/*"),
    *("drivers/hid/*", "drivers/input/evdev.ko", "drivers/input/joydev.ko"),
    *("drivers/input/joystick/xpad.ko", "drivers/tty/serial/*", "drivers/uio/uio_pci_generic.ko"),
    *("drivers/scsi/sd_mod.ko", "drivers/scsi/sr_mod.ko"),
    *("drivers/nvme/host/nvme.ko", "drivers/ata/ahci.ko"),
    *("drivers/mmc/host/sdhci-pci.ko", "drivers/mmc/core/mmc_block.ko"),
    *("drivers/net/can/*", "net/can/*", "drivers/net/phy/*", "drivers/net/ethernet/intel/*"),
    *("drivers/net/ethernet/realtek/*", "drivers/net/ethernet/amazon/*"),
    *("drivers/net/ethernet/aquantia/*", "drivers/net/ethernet/atheros/*"),
    *("drivers/net/ethernet/broadcom/*", "drivers/net/ethernet/marvell/sk*"),
    *("drivers/net/ethernet/mellanox/mlx4/mlx4_en.ko",),
    *("drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko",),
    *("fs/fat/*", "fs/exfat/*", "fs/nls/*", "fs/isofs/*", "fs/udf/*", "fs/ntfs3/*"),
)
"""Patterns, as `modules.choose` takes them."""
_ABSENT: Final = (
    *("*/bnx2x/*", "*cnic*", "*octeon*", "*test*", "*sisusb*"),
    *("*/surface-hid/*", "*/amd-sfh-hid/*", "*/intel-ish-hid/*"),
)


def make_drivers(modules: Path, tools: Tools, epoch: int, out: Path) -> None:
    """`modules`: all of a kernel, `<root>/usr/lib/modules/<version>`, with their dependencies.
    `out`: an image whose root is to be mounted at /lib/modules.
    """
    root = out.parent / "drivers"
    target = root / "lib/modules" / modules.name
    target.mkdir(parents=True)
    needs = parse_dependencies((modules / "modules.dep").read_text())
    for name in choose(needs, DRIVERS, _ABSENT):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(modules / name, target / name)
    for name in _INDEXES:
        shutil.copyfile(modules / name, target / name)
    tools.run("depmod", "-b", root, modules.name)
    for index in target.glob("*.bin"):  # busybox reads the others
        index.unlink()
    tools.run(
        *("mksquashfs", root / "lib/modules", out, "-noappend", "-no-progress", "-quiet"),
        *("-all-root", "-no-xattrs", "-no-exports", "-no-hardlinks", "-comp", "zstd"),
        *("-Xcompression-level", _LEVEL, "-mkfs-time", str(epoch), "-all-time", str(epoch)),
    )
    shutil.rmtree(root)
