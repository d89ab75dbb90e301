"""A Linux that looks at its devices: Debian's kernel, busybox, and a few lines of shell.

It tells what it finds (`pci 1234:11e8`, `usb 0627:0001`, `tpm 2`), again and again; what it hears
on its second serial port it answers there, and says so.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgevirt.image.build import open_build
from edgevirt.image.parts.modules import choose, parse_dependencies
from edgevirt.image.recipe import Arch, Variant
from tests.e2e.os.probe_disk import CACHE

_MODULES = ("drivers/usb/host/xhci-pci.ko", "drivers/usb/core/*")
_APPLETS = "cat echo insmod ln ls mkdir mount poweroff sh sleep stty"
_INIT = """\
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules); do insmod $module; done
echo "guest: up"
for tpm in /sys/class/tpm/tpm*; do
  [ -e "$tpm" ] && echo "guest: tpm $(cat $tpm/tpm_version_major)"
done
(
  # one file, open all the time: what comes between two of them is lost
  exec 3<>/dev/ttyS1
  stty -F /dev/ttyS1 raw -echo 115200 && echo "guest: on the line" >&3 &&
  while read line <&3; do
    echo "guest: heard $line"
    echo "guest answers $line" >&3
  done
) &
told=
while :; do
  found=
  for device in /sys/bus/pci/devices/*; do
    found="$found pci $(cat $device/vendor):$(cat $device/device)"
  done
  for device in /sys/bus/usb/devices/[0-9]*-[0-9]*; do
    [ -e "$device/idVendor" ] && found="$found usb $(cat $device/idVendor):$(cat $device/idProduct)"
  done
  [ "$found" = "$told" ] || echo "guest: has$found."
  told="$found"
  sleep 1
done
"""


def make_device_guest(folder: Path) -> tuple[Path, Path]:
    """Kernel and initial RAM disk; `folder` is where they are made."""
    build = open_build(Variant.KVM, Arch.AMD64, CACHE, ())
    tree = folder / "tree"
    for name in ("bin", "proc", "sys", "dev", "modules.d"):
        (tree / name).mkdir(parents=True)
    shutil.copy(build.base().path / "usr/bin/busybox", tree / "bin/busybox")
    for applet in _APPLETS.split():
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "init").write_text(_INIT)
    (tree / "init").chmod(0o755)
    source = next((build.kernel().path / "usr/lib/modules").iterdir())
    needs = parse_dependencies((source / "modules.dep").read_text())
    loaded = []
    for name in in_order(choose(needs, _MODULES), needs):
        target = tree / "modules.d" / Path(name).name
        shutil.copyfile(source / name, target)
        loaded.append(f"/modules.d/{target.name}")
    (tree / "modules").write_text("\n".join(loaded))
    names = subprocess.run(
        ["find", "."], cwd=tree, check=True, capture_output=True
    ).stdout  # fmt: skip
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"],
        cwd=tree, check=True, capture_output=True, input=names,
    ).stdout  # fmt: skip
    kernel, initrd = folder / "kernel", folder / "initrd"
    initrd.write_bytes(gzip.compress(archive, 1))
    shutil.copy(build.kernel().path / "boot/vmlinuz", kernel)
    return kernel, initrd


def in_order(modules: Iterable[str], needs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What others need comes before them."""
    order: list[str] = []

    def add(name: str) -> None:
        for needed in needs.get(name, ()):
            add(needed)
        if name not in order:
            order.append(name)

    for name in modules:
        add(name)
    return order
