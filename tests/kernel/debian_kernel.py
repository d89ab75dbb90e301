"""This machine's programs on another kernel: Debian's, in a machine that QEMU emulates.

A test needs it where this kernel lacks a driver, or this machine a device. The machine's root is
this one's, read only; `/run` and `/mnt` are its own, and empty. Its Python takes some 20 s to
import what a service does.
"""

from __future__ import annotations

import base64
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgevirt.host.kvm.acceleration import EMULATED
from edgevirt.image.build import open_build
from edgevirt.image.parts.initrd import pack
from edgevirt.image.parts.modules import parse_dependencies
from edgevirt.image.recipe import Arch, Variant
from tests.e2e.os.probe_disk import CACHE
from tests.parts.device_guest import in_order

_ROOT = ("virtio_pci.ko", "9pnet_virtio.ko", "/9p.ko")
_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for module in $($B cat /modules); do $B insmod /drivers/$module; done
$B mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro host /root
for place in proc sys dev; do $B mount --move /$place /root/$place; done
$B mount -t tmpfs run /root/run
$B mount -t tmpfs mnt /root/mnt
$B ip link set lo up
command=$($B sed 's/.*command=//' /root/proc/cmdline | $B base64 -d)
echo "BEGIN"
$B chroot /root /bin/sh -c "$command"
echo "END $?"
$B poweroff -f
"""


def on_debian_kernel(
    folder: Path,
    command: Sequence[str],
    *,
    modules: Sequence[str] = (),
    arguments: Sequence[str] = (),
    patience: float = 600.0,
) -> str:
    """What the command prints; it must end well.

    `folder`: for what is made. `modules`: ends of paths in the kernel's tree. `arguments`: QEMU's,
    for devices.
    """
    kernel, initrd = _make(folder, (*_ROOT, *modules))
    words = base64.b64encode(shlex.join(command).encode()).decode()
    machine = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-serial", "stdio", "-machine", "q35"),
        *("-accel", "tcg,thread=multi", "-cpu", EMULATED, "-smp", "2", "-m", "768"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", f"console=ttyS0 quiet panic=-1 command={words}"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
        *arguments,
    ]
    done = subprocess.run(
        machine, capture_output=True, text=True, errors="replace", timeout=patience, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    _, _, said = done.stdout.replace("\r", "").partition("BEGIN\n")
    found, _, status = said.rpartition("END ")
    assert status.startswith("0"), done.stdout
    return found


def _make(folder: Path, wanted: tuple[str, ...]) -> tuple[Path, Path]:
    """Kernel and initial file system."""
    build = open_build(Variant.KVM, Arch.AMD64, CACHE, ())
    tree = folder / "initial"
    for name in ("bin", "proc", "sys", "dev", "root", "drivers"):
        (tree / name).mkdir(parents=True)
    shutil.copy(build.base().path / "usr/bin/busybox", tree / "bin/busybox")
    [source] = (build.kernel().path / "usr/lib/modules").iterdir()
    needs = parse_dependencies((source / "modules.dep").read_text())
    order = in_order((name for name in needs if name.endswith(wanted)), needs)
    for name in order:
        shutil.copyfile(source / name, tree / "drivers" / Path(name).name)
    (tree / "modules").write_text("".join(f"{Path(name).name}\n" for name in order))
    (tree / "init").write_text(_INIT)
    (tree / "init").chmod(0o755)
    initrd = folder / "initrd"
    initrd.write_bytes(pack(tree, 0))
    return build.kernel().path / "boot/vmlinuz", initrd
