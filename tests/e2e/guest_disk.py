"""A disk with a real Linux: our boot loader for BIOS and UEFI, Debian's kernel, and busybox.

The guest does what a cloud image does with cloud-init: it looks for the disk with a `meta-data`,
and runs a user-data that is a script. So a test says there what the guest is to do. It powers
itself off when somebody presses the power button.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgevirt.image.build import Build, open_build
from edgevirt.image.disks.raw import Filling, make_disk
from edgevirt.image.parts.modules import choose, parse_dependencies
from edgevirt.image.parts.root import squash
from edgevirt.image.recipe import Arch, Variant
from edgevirt.image.release.media import esp_files
from edgevirt.model.disk import Label
from tests.e2e.os.probe_disk import CACHE

APPLETS = (
    "acpid cat dd echo grep head hostname httpd ifconfig ip ls mkdir mke2fs modprobe mount"
    " poweroff reboot route sed sh sleep sync sysctl udhcpc umount uname wc wget"
)
FOLDERS = "boot EFI/BOOT sbin bin etc proc sys dev run tmp mnt"
MODULES = (
    *("fs/isofs/*", "fs/ext4/*", "drivers/net/virtio_net.ko", "drivers/net/ethernet/intel/e1000/*"),
    *("drivers/acpi/button.ko", "drivers/input/evdev.ko", "net/packet/*", "drivers/ata/*piix*"),
    *("crypto/crc32c*", "arch/x86/crypto/crc32c*"),
)
INIT = """\
#!/bin/sh
export PATH=/bin
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
modprobe -a button evdev crc32c_generic isofs ext4 virtio_net e1000 af_packet 2>/dev/null
for button in /dev/input/event*; do
  (head -c 1 "$button" >/dev/null && echo "guest: the button" && sync && poweroff -f) &
done
firmware=BIOS
[ -d /sys/firmware/efi ] && firmware=UEFI
echo "guest: up by $firmware"
for disk in /dev/vd? /dev/sr?; do
  [ -e /mnt/meta-data ] || mount -t iso9660 -o ro "$disk" /mnt 2>/dev/null
done
if [ -e /mnt/meta-data ]; then
  echo "guest: told $(cat /mnt/meta-data)"
  case $(head -n 1 /mnt/user-data) in
    "#!"*) sh /mnt/user-data ;;
    *) cat /mnt/user-data ;;
  esac
fi
echo "guest: ready"
while :; do sleep 3600; done
"""
DHCP = """\
#!/bin/sh
[ "$1" = bound ] && ifconfig "$interface" "$ip" netmask "$subnet" && route add default gw "$router"
exit 0
"""


def make_guest_disk(folder: Path) -> Path:
    """`folder`: where it is made."""
    build = open_build(Variant.KVM, Arch.AMD64, CACHE, ())
    tree = folder / "tree"
    for name in FOLDERS.split():
        (tree / name).mkdir(parents=True)
    shutil.copy(build.kernel().path / "boot/vmlinuz", tree / "boot")
    shutil.copy(build.initrd().path, tree / "boot/initrd.img")
    shutil.copy(build.base().path / "usr/bin/busybox", tree / "bin/busybox")
    for applet in APPLETS.split():
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "EFI/BOOT/grub.cfg").write_text(build.stage2())
    for name, text in (("sbin/init", INIT), ("etc/dhcp", DHCP)):
        (tree / name).write_text(text)
        (tree / name).chmod(0o755)
    _add_modules(build, tree)
    image, disk = folder / "root.squashfs", folder / "guest.raw"
    squash(tree, build.tools(), build.settings.epoch, image)
    boot = build.grub().path
    fillings = {
        Label.BIOS: Filling(),
        Label.ESP: Filling(files=esp_files(boot)),
        Label.IMGA: Filling(image=image),
        Label.IMGB: Filling(),
        Label.CONFIG: Filling(),
    }
    make_disk(fillings, build.tools(), disk, boot)
    return disk


def _add_modules(build: Build, tree: Path) -> None:
    source = next((build.kernel().path / "usr/lib/modules").iterdir())
    target = tree / "lib/modules" / source.name
    needs = parse_dependencies((source / "modules.dep").read_text())
    for name in choose(needs, MODULES):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    build.tools().run("depmod", "-b", tree, source.name)
