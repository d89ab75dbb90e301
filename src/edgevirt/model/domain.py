"""Domains: what apps run in. `apps` says which should be, `domains` makes them."""

from __future__ import annotations

import enum
from typing import Final

from edgevirt.model.access import Vnc
from edgevirt.model.base import Noun, SwState, Trouble
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.hardware import DomainDevice
from edgevirt.model.ids import AppId

ENDED: Final = "cannot keep running"
"""What is said of a domain that ended by itself begins so: by this controllers count the ends."""


class VirtualizationMode(enum.IntEnum):
    """`VmMode` of the wire."""

    PV = 0
    HVM = 1
    FILLER = 2
    FML = 3
    NOHYPER = 4
    LEGACY = 5


class BootMode(enum.IntEnum):
    """`VmBootMode` of the wire: a virtual machine's firmware. UNSPECIFIED: its mode says."""

    UNSPECIFIED = 0
    LEGACY = 1
    UEFI = 2


class BootOrder(enum.IntEnum):
    """`BootOrder` of the wire: whether a virtual machine looks for its system on what is plugged
    into USB. UNSPECIFIED: where no disk has one.
    """

    UNSPECIFIED = 0
    USB = 1
    """There first."""
    NO_USB = 2


class DomainVolume(Noun, frozen=True, kw_only=True):
    path: str
    format: int
    """A ContentFormat."""
    mount_dir: str = ""
    """Where a container sees it. For a virtual machine the device that it is: `/dev/fd0` a floppy
    disk, `/dev/cdrom` a CD-ROM; all else is a disk."""
    readonly: bool = False
    layers: tuple[str, ...] = ()
    packed: str = ""
    """Path of a disk that holds the layers, a directory each, for a container in a machine."""
    size: int = 0
    """Bytes that it is to have, also while the domain runs; 0: as it is."""


class DomainVif(Noun, frozen=True, kw_only=True):
    """A network interface of a virtual machine: the tap on the node, and the guest's address."""

    host_name: str
    mac: str
    mtu: int = 0
    place: int = 0
    """Among all network interfaces that the guest finds, devices included, from 1. 0 of all: these
    first, as they are listed, and then the devices."""


class Domain(Noun, frozen=True, kw_only=True):
    """What should run. Key: app id. apps → domains. A changed `generation` means: restart."""

    app: AppId
    name: str
    """`<uuid>.<version>.<app number>`, as EVE names tasks."""
    display_name: str
    activate: bool
    generation: int = 0
    mode: VirtualizationMode = VirtualizationMode.NOHYPER
    memory_kib: int = 0
    overhead_kib: int = 0
    vcpus: int = 1
    cpus: tuple[int, ...] = ()
    """The processors of the cores that it has for itself, at least one for each of its CPUs, in
    their order; empty: it shares."""
    boot_mode: BootMode = BootMode.UNSPECIFIED
    boot_order: BootOrder = BootOrder.UNSPECIFIED
    volumes: tuple[DomainVolume, ...] = ()
    """The first is the root; without those that `kernel` and `ramdisk` name."""
    kernel: str = ""
    """Path of a kernel to start a virtual machine with; empty: it boots from a disk."""
    ramdisk: str = ""
    kernel_arguments: str = ""
    vifs: tuple[DomainVif, ...] = ()
    """Of a virtual machine; a container finds its interfaces in `netns`."""
    image: ImageConfig = ImageConfig()
    user_data: str = ""
    """In clear; a secret one comes in AppSecret and wins."""
    has_secret: bool = False
    netns: str = ""
    dns: tuple[str, ...] = ()
    hostname: str = ""
    devices: tuple[DomainDevice, ...] = ()
    tpm: bool = False
    vnc: Vnc | None = None

    @property
    def is_container(self) -> bool:
        """Whether it runs a container's image, bare or in a virtual machine of its own."""
        return bool(self.volumes) and self.volumes[0].format == ContentFormat.CONTAINER


class DiskStatus(Noun, frozen=True, kw_only=True):
    """Of a DomainVolume that is to have a `size`, as a running domain has it."""

    path: str
    size: int = 0
    """Bytes that the domain knows of, as far as it was told; 0: as when it started."""
    why: str = ""
    """Why it has no more: «cannot X: why»."""


class DomainStatus(Noun, frozen=True, kw_only=True):
    """Key: app id. domains → apps, agent. BOOTING, RUNNING, HALTING, HALTED or BROKEN."""

    app: AppId
    name: str
    state: SwState
    since: float
    generation: int = 0
    pid: int = 0
    boot_time: float = 0.0
    """Of its last start, also while it waits to be started again after a failure."""
    exit_code: int | None = None
    crashes: int = 0
    vnc_display: int | None = None
    """Where its screen may be shown at the node's own door."""
    disks: tuple[DiskStatus, ...] = ()
    trouble: Trouble | None = None


class DomainMetric(Noun, frozen=True, kw_only=True):
    """Key: app id."""

    at: float
    cpu_ns: int = 0
    memory_bytes: int = 0
    memory_limit: int = 0
    memory_peak: int = 0
    disk_read: int = 0
    disk_write: int = 0


class DomainExit(Noun, frozen=True, kw_only=True):
    """A domain has ended by itself and wants to be looked at. Key: app id. domains alone."""

    at: float
    pid: int


class HostCapacity(Noun, frozen=True, kw_only=True):
    """What this machine can run at all. Key: `node`. domains → apps."""

    memory_kib: int
    """All of the machine's, the node's own part included."""
    cpus: int
    modes: tuple[VirtualizationMode, ...] = ()
    """Those that a hypervisor adapter of this node serves."""
    acceleration: str = ""
    """Of virtual machines: `kvm`, `xen` where the processor helps it, or `tcg` where they are
    emulated; empty: not known (yet)."""
    cores: tuple[tuple[int, ...], ...] = ()
    """Processors, by the core that they are part of, that an app may have for itself."""
    no_cores: str = ""
    """Why there are none."""
    no_tpm: str = ""
    """Why no virtual machine has a TPM of its own here; empty: they have."""
    no_guest: str = ""
    """Why no container has a virtual machine of its own here; empty: they have."""
