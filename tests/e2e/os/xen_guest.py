"""A guest for Xen: the image's own kernel, and an initial file system that tells what it sees."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from edgevirt.image.build import Build
from edgevirt.image.initrd import pack
from edgevirt.image.modules import closure, parse_dependencies

_DISK_DRIVER: Final = "drivers/block/xen-blkfront.ko"
_INIT: Final = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
for module in $($B cat /modules); do $B insmod /$module; done
while [ ! -b /dev/xvda ]; do $B sleep 0.1; done
found=$($B dd if=/dev/xvda bs=64 count=1 2>/dev/null | $B tr -d '\\0')
echo "GUEST its disk says: $found"
echo "kept by the guest" | $B dd of=/dev/xvda bs=512 count=1 conv=sync,fsync 2>/dev/null
echo "GUEST runs on $($B cat /sys/hypervisor/type), told $($B cat /proc/cmdline)"
while true; do $B sleep 3600; done
"""
_POWER_OFF: Final = "#!/bin/busybox sh\n/bin/busybox poweroff -f\n"


def guest_kernel(build: Build) -> Path:
    return build.kernel().path / "boot/vmlinuz"


def make_guest_initrd(build: Build, scratch: Path, out: Path) -> None:
    """`scratch`: to be made."""
    for name in ("bin", "sbin", "proc", "sys", "dev"):
        (scratch / name).mkdir(parents=True)
    shutil.copy(build.base().path / "usr/bin/busybox", scratch / "bin/busybox")
    for name, text in (("init", _INIT), ("sbin/poweroff", _POWER_OFF)):
        (scratch / name).write_text(text)
        (scratch / name).chmod(0o755)
    [source] = (build.kernel().path / "usr/lib/modules").iterdir()
    needs = parse_dependencies((source / "modules.dep").read_text())
    [driver] = [name for name in needs if _DISK_DRIVER in name]
    ordered = [name for name in closure((driver,), needs) if name != driver]
    for name in (*ordered, driver):
        (scratch / Path(name).name).write_bytes((source / name).read_bytes())
    names = [Path(name).name for name in (*ordered, driver)]
    (scratch / "modules").write_text("".join(f"{name}\n" for name in names))
    out.write_bytes(pack(scratch, build.settings.epoch))
