"""A guest for Xen: the image's own kernel, and an initial file system that tells what it sees."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from edgevirt.image.build import Build
from edgevirt.image.parts.initrd import pack
from edgevirt.image.parts.modules import closure, parse_dependencies

_DRIVERS: Final = ("drivers/block/xen-blkfront.ko", "drivers/net/xen-netfront.ko")
_INIT: Final = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
for module in $($B cat /modules); do $B insmod /$module; done
while [ ! -b /dev/xvda ]; do $B sleep 0.1; done
found=$($B head -c 26 /dev/xvda)
echo "GUEST its disk says: $found"
echo "kept by the guest" | $B dd of=/dev/xvda bs=512 count=1 conv=sync,fsync 2>/dev/null
echo "GUEST is a $($B cat /sys/hypervisor/guest_type) domain"
echo "GUEST runs on $($B cat /sys/hypervisor/type), told $($B cat /proc/cmdline)"
if $B ls /sys/bus/xen/devices | $B grep -q "^vif"; then
  while [ ! -d /sys/class/net/eth0 ]; do $B sleep 0.1; done
  $B ip link set eth0 up
  $B udhcpc -i eth0 -q -f -n -t 30 -s /connected
fi
while read -r line; do echo "GUEST heard $line"; done
while true; do $B sleep 3600; done
"""
_CONNECTED: Final = """\
#!/bin/busybox sh
# called by udhcpc
B=/bin/busybox
[ "$1" = bound ] || exit 0
echo "GUEST was given the address $ip by $serverid"
"""
_POWER_OFF: Final = "#!/bin/busybox sh\n/bin/busybox poweroff -f\n"


def guest_kernel(build: Build) -> Path:
    return build.kernel().path / "boot/vmlinuz"


def make_guest_initrd(build: Build, scratch: Path, out: Path) -> None:
    """`scratch`: to be made."""
    for name in ("bin", "sbin", "proc", "sys", "dev"):
        (scratch / name).mkdir(parents=True)
    shutil.copy(build.base().path / "usr/bin/busybox", scratch / "bin/busybox")
    for name, text in (("init", _INIT), ("sbin/poweroff", _POWER_OFF), ("connected", _CONNECTED)):
        (scratch / name).write_text(text)
        (scratch / name).chmod(0o755)
    [source] = (build.kernel().path / "usr/lib/modules").iterdir()
    needs = parse_dependencies((source / "modules.dep").read_text())
    drivers = [name for name in needs if name.endswith(_DRIVERS)]
    modules = [*(m for m in closure(drivers, needs) if m not in drivers), *drivers]
    for name in modules:
        (scratch / Path(name).name).write_bytes((source / name).read_bytes())
    (scratch / "modules").write_text("".join(f"{Path(name).name}\n" for name in modules))
    out.write_bytes(pack(scratch, build.settings.epoch))
