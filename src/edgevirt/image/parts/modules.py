"""Which kernel modules an image has: those that match a pattern, and all that they need. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Final

_DISKS: Final = (
    *("drivers/virtio/*", "drivers/block/virtio_blk.ko", "drivers/scsi/virtio_scsi.ko"),
    *("drivers/nvme/host/nvme.ko", "drivers/ata/ahci.ko", "drivers/ata/ahci_platform.ko"),
    *("drivers/ata/ata_piix.ko", "drivers/ata/ata_generic.ko", "drivers/ata/pata_acpi.ko"),
    *("drivers/scsi/sd_mod.ko", "drivers/scsi/sr_mod.ko", "drivers/scsi/megaraid/megaraid_sas.ko"),
    *("drivers/scsi/mpt3sas/*", "drivers/scsi/hpsa.ko", "drivers/scsi/vmw_pvscsi.ko"),
    *("drivers/usb/host/*", "drivers/usb/storage/*", "drivers/mmc/core/*"),
    *("drivers/mmc/host/sdhci*", "drivers/usb/dwc3/*", "drivers/block/xen-blkfront.ko"),
    *("fs/squashfs/*", "drivers/char/hw_random/virtio-rng.ko", "drivers/md/dm-mod.ko"),
    "drivers/block/loop.ko",
)
"""What finds the root image."""

_TRUST: Final = (
    *("drivers/char/tpm/*", "crypto/sha256_generic.ko", "crypto/algif_hash.ko"),
    *("arch/*/crypto/sha256*", "arch/*/crypto/sha2-ce.ko"),
)
_WATCHDOGS: Final = (
    *("drivers/watchdog/i6300esb.ko", "drivers/watchdog/iTCO*", "drivers/watchdog/sp5100_tco.ko"),
    *(
        "drivers/watchdog/softdog.ko",
        "drivers/watchdog/wdat_wdt.ko",
        "drivers/i2c/busses/i2c-i801.ko",
    ),
    *("drivers/mfd/lpc_ich.ko", "drivers/watchdog/sbsa_gwdt.ko"),
)

_LAST_WORDS: Final = ("drivers/firmware/efi/efi-pstore.ko",)
"""What keeps the kernel's words when it panics, from the start."""

EARLY: Final = (*_DISKS, *_TRUST, *_WATCHDOGS, *_LAST_WORDS, "fs/efivarfs/*")
"""Modules of the initial file system."""

PRESENT: Final = (
    *EARLY,
    *("drivers/net/*.ko", "drivers/net/phy/*", "drivers/net/mdio/*", "drivers/net/bonding/*"),
    *("drivers/net/ethernet/intel/*", "drivers/net/ethernet/realtek/*", "drivers/net/pcs/*"),
    *(
        "drivers/net/ethernet/broadcom/*",
        "drivers/net/ethernet/amd/*",
        "drivers/net/ethernet/atheros/*",
    ),
    *("drivers/net/ethernet/marvell/*", "drivers/net/ethernet/freescale/*"),
    *("drivers/net/ethernet/stmicro/*", "drivers/net/ethernet/aquantia/*"),
    *("drivers/net/ethernet/amazon/*", "drivers/net/ethernet/microsoft/*"),
    *("drivers/net/usb/*", "drivers/net/wireguard/*", "drivers/net/vxlan/*"),
    *("drivers/net/macvlan.ko", "drivers/net/vmxnet3/*", "drivers/net/hyperv/*"),
    *("drivers/net/xen-netfront.ko", "drivers/net/xen-netback/*", "drivers/xen/*"),
    *("drivers/block/*.ko", "drivers/block/xen-blkback/*", "drivers/md/dm-*"),
    *("drivers/hid/hid.ko", "drivers/hid/hid-generic.ko", "drivers/hid/usbhid/*"),
    *("drivers/usb/serial/*", "drivers/usb/class/*", "drivers/usb/core/*", "drivers/usb/common/*"),
    *("drivers/input/*.ko", "drivers/input/keyboard/atkbd.ko", "drivers/input/serio/*"),
    *(
        "drivers/input/mouse/psmouse.ko",
        "drivers/firmware/*",
        "drivers/acpi/*",
        "drivers/thermal/*",
    ),
    *("drivers/gpio/gpio-pl061.ko", "drivers/rtc/rtc-pl031.ko", "drivers/power/*", "drivers/pci/*"),
    "drivers/gpio/*",
    *("drivers/vfio/*", "drivers/vhost/*", "drivers/iommu/*", "arch/*/kvm/*", "virt/*"),
    *("drivers/char/*.ko", "drivers/char/hw_random/*", "drivers/char/ipmi/*", "drivers/tty/*"),
    *("drivers/hv/*", "drivers/i2c/busses/*", "drivers/mfd/*", "drivers/watchdog/*"),
    *("drivers/hwmon/coretemp.ko", "drivers/platform/x86/wmi.ko", "drivers/mmc/*"),
    *("fs/fat/*", "fs/nls/*", "fs/ext4/*", "fs/jbd2/*", "fs/mbcache.ko", "fs/overlayfs/*"),
    *("fs/isofs/*", "fs/fuse/*", "fs/efivarfs/*", "fs/pstore/*", "fs/crypto/*", "fs/9p/*"),
    *("fs/configfs/*", "fs/binfmt_misc.ko", "fs/autofs/*", "fs/udf/*", "fs/exfat/*"),
    *("net/bridge/*", "net/8021q/*", "net/802/*", "net/llc/*", "net/netfilter/*"),
    *("net/ipv4/*", "net/ipv6/*", "net/sched/*", "net/vmw_vsock/*", "net/packet/*", "net/xfrm/*"),
    "net/can/*",
    *("net/9p/*", "net/core/*", "net/key/*", "net/tls/*", "net/psample/*", "net/dns_resolver/*"),
    *("crypto/*", "arch/*/crypto/*", "lib/*", "security/*", "kernel/*", "block/*", "mm/*"),
)
"""Modules of the root image. `*` crosses folders."""

ABSENT: Final = (
    *(
        "*/iio/*",
        "*/comedi/*",
        "*/staging/*",
        "*/gpu/*",
        "*/media/*",
        "*/sound/*",
        "*/infiniband/*",
    ),
    *("drivers/block/drbd/*", "drivers/net/wireless/*", "drivers/net/wwan/*"),
    *(
        "drivers/net/ethernet/broadcom/bnx2x/*",
        "drivers/net/ethernet/broadcom/cnic*",
        "drivers/usb/gadget/*",
    ),
    *(
        "drivers/net/ethernet/marvell/octeon*",
        "drivers/net/ethernet/freescale/dpaa*",
        "drivers/usb/misc/*",
    ),
    *("drivers/net/ethernet/mellanox/*", "net/sctp/*", "net/netfilter/ipvs/*", "*test*"),
    *(
        "drivers/net/fddi/*",
        "drivers/net/arcnet/*",
        "drivers/net/hamradio/*",
        "drivers/net/ieee802154/*",
    ),
    *("drivers/net/plip/*", "drivers/net/ppp/*", "drivers/net/slip/*", "drivers/tty/n_gsm.ko"),
)
"""Left out, unless something needs them."""


def closure(wanted: Iterable[str], needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The modules and all that they need, sorted. Paths as `modules.dep` has them."""
    found: set[str] = set()
    open_ends = list(wanted)
    while open_ends:
        module = open_ends.pop()
        if module not in found:
            found.add(module)
            open_ends.extend(needs.get(module, ()))
    return tuple(sorted(found))


def choose(
    needs: Mapping[str, tuple[str, ...]], present: Iterable[str], absent: Iterable[str] = ABSENT
) -> tuple[str, ...]:
    """Of all modules (the keys of `needs`) those that are wanted, and what they need."""
    present, absent = tuple(present), tuple(absent)
    wanted = [
        module for module in needs if _matches(module, present) and not _matches(module, absent)
    ]
    return closure(wanted, needs)


def _matches(module: str, patterns: Iterable[str]) -> bool:
    name = module.removeprefix("kernel/").removesuffix(".xz").removesuffix(".zst")
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def parse_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """Of `modules.dep`: each module, and what it needs."""
    found = {}
    for line in text.splitlines():
        module, _, needs = line.partition(":")
        if module:
            found[module] = tuple(needs.split())
    return found
