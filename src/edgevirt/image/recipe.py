"""What an image is made of, as plain values: packages, kernel modules, GRUB's modules, settings.

Packages are unpacked, not installed: none of their scripts run, so that the same packages make the
same bytes, and an arm64 image needs no arm64 machine. What only such scripts need is left out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgevirt.model.ids import Digest

FILES: Final = Path(__file__).parent / "files"
"""What an image has of our own besides the node's code."""


class Variant(enum.StrEnum):
    KVM = "kvm"
    XEN = "xen"


class Arch(enum.StrEnum):
    """As Debian names it."""

    AMD64 = "amd64"
    ARM64 = "arm64"


@dataclass(frozen=True)
class Group:
    """Packages that go to one place.

    suites    where they are looked for.
    packages  that are wanted; those that they need come along.
    without   patterns of names that are left out all the same.
    """

    name: str
    suites: tuple[str, ...]
    packages: tuple[str, ...]
    without: tuple[str, ...] = ()


STABLE: Final = ("bookworm", "bookworm-updates", "bookworm-security")
NEWER: Final = ("trixie",)
"""GRUB 2.12: boots kernels through their EFI stub, so that firmware logs what it measured."""

_FOR_SCRIPTS: Final = (
    r"adduser|passwd|libpam.*|libsemanage.*|libsepol2|libaudit.*|debconf|dpkg|tar|login|libdb5\.3",
    r"initramfs-tools.*|klibc-utils|libklibc|cpio|linux-base|logsave|udev|gcc-12-base|media-types",
    r"readline-common|libtirpc.*|libnsl2|libgssapi-krb5-2|libkrb5.*|libk5crypto3|libkeyutils1",
    r"openssl|util-linux-extra|libnss-.*|perl-base|coreutils|libcap2-bin|linux-image-(amd64|arm64)",
)

PYTHON: Final = "3.11"
"""The node's."""
XEN: Final = "4.17"
LIBRARIES: Final = (
    *("msgspec", "protobuf", "cryptography", "cffi", "uvloop", "pyroute2", "pyseccomp"),
    *("httpx", "httpcore", "h11", "anyio", "certifi", "idna", "typing-extensions"),
    "backports-zstd",
    *("pycdlib", "qemu-qmp"),  # virtual machines
    "websockets",  # consoles
    "pyyaml",  # user data of containers
)
"""The node's Python libraries, of those in `requirements.lock`."""

KERNEL: Final = "kernel"
ROOT: Final = "root"
GRUB: Final = "grub"
TOOLS: Final = "tools"
HYPERVISOR: Final = "hypervisor"


def _kernel(arch: Arch) -> Group:
    without = (*_FOR_SCRIPTS, r"(?!linux-image-).*")
    return Group(KERNEL, STABLE, (f"linux-image-{arch}",), without)


_ROOT_PACKAGES: Final = (
    "python3.11",       # the node
    "runc",             # containers
    "conmon",           # one monitor for each
    "dnsmasq-base",     # DHCP and DNS for apps
    "nftables",         # access rules, NAT
    "iproute2",         # to look at links
    "e2fsprogs",        # P3 and blank volumes
    "dosfstools",       # CONFIG and INVENTORY are checked, and made
    "gdisk",            # partitions
    "fdisk",            # the kernel is told of them (sfdisk)
    "mount",
    "util-linux",       # blkid, wdctl, fstrim
    "kmod",             # modules
    "busybox-static",   # the initial file system, and the ports' DHCP client
    "mtools",           # sticks that somebody plugs in
    "ca-certificates",  # datastores and registries on the Internet
    "libseccomp2",      # system call filters
)  # fmt: skip

_MACHINE_PACKAGES: Final = (
    "qemu-system-x86",  # virtual machines
    "qemu-utils",       # disk images of others are converted
    "ovmf",             # machines with UEFI
    "swtpm",            # a TPM of a machine's own
    "squashfs-tools",   # images as disks, for containers in machines
)  # fmt: skip
_FOR_SCREENS: Final = (
    r"libasound2.*|libbrlapi.*|libcacard0|libepoxy0|libgbm1|libsndio.*|libspice-server1|mesa-.*",
    r"libusbredir.*|libdrm.*|libwayland.*|libgstreamer.*|liborc.*|libopus0|libx11.*",
    r"libxau.*|libxcb.*|libxdmcp.*|libxext.*|libxshm.*|libxfixes.*|libnss3|libnspr4|libpcsclite1",
    r"libglapi.*|libllvm.*|libdw1|libunwind8|libexecs0|libasyncns0|libflac.*|libogg.*|libvorbis.*",
    r"libsasl2-modules.*|ibverbs-providers|ipxe-qemu|iso-codes",
)
"""Of QEMU: its sound, its windows, its smart cards, its network cards' programs."""


def _runs_machines(variant: Variant, arch: Arch) -> bool:
    """Whether QEMU is in it."""
    return (variant, arch) == (Variant.KVM, Arch.AMD64)


def _root(variant: Variant, arch: Arch) -> Group:
    packages: tuple[str, ...] = _ROOT_PACKAGES
    without: tuple[str, ...] = _FOR_SCRIPTS
    if _runs_machines(variant, arch):
        packages, without = (*packages, *_MACHINE_PACKAGES), (*without, *_FOR_SCREENS)
    return Group(ROOT, STABLE, packages, without)


def _xen(arch: Arch) -> Group:
    """The hypervisor, programs for its first domain, and libraries that nothing else needs."""
    names = (f"xen-hypervisor-{XEN}-{arch}", f"xen-utils-{XEN}", "xenstore-utils")
    kept = r"xen-hypervisor-\d.*|xen-utils-\d.*|xenstore-utils|libxen.*|libyajl2|libnl-.*|libfdt1"
    return Group(HYPERVISOR, STABLE, names, (rf"(?!(?:{kept})$).*",))


def groups(variant: Variant, arch: Arch) -> tuple[Group, ...]:
    """The groups of packages of an image."""
    if arch is Arch.ARM64:
        grub = Group(GRUB, NEWER, ("grub-efi-arm64-bin",), (r"(?!grub-efi-arm64-bin).*",))
    else:
        names = ("grub-efi-amd64-bin", "grub-pc-bin")
        grub = Group(GRUB, NEWER, names, (r"(?!grub-(efi-amd64|pc)-bin).*",))
    found = [_kernel(arch), _root(variant, arch), grub]
    if variant is Variant.XEN:
        found.append(_xen(arch))
    return tuple(found)


def tools() -> Group:
    """Programs that the build runs, on whatever Debian it is: the same ones everywhere."""
    return Group(
        TOOLS,
        NEWER,
        ("grub-common", "squashfs-tools", "mtools", "dosfstools", "gdisk", "kmod"),
        (r"debconf|dpkg|tar|perl-base|gettext-base|libfuse.*|gcc-14-base|readline-common",),
    )


@dataclass(frozen=True)
class Settings:
    """What is told about one build.

    version  of the product; `epoch`: seconds since 1970, the time of every file.
    users    of the node's services: name → uid.
    """

    variant: Variant
    arch: Arch
    version: str
    epoch: int
    users: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.arch}"

    def full_version(self, build: Digest | str) -> str:
        """As the node and its controller name the image."""
        return f"edgevirt-{self.version}-{build}-{self.name}"


def has_machines(settings: Settings) -> bool:
    """Whether its node runs virtual machines in QEMU."""
    return _runs_machines(settings.variant, settings.arch)
