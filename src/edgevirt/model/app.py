"""Apps, and the domains that they run in."""

from __future__ import annotations

import enum

from edgevirt.model.access import Vnc
from edgevirt.model.base import Noun, SwState, Trouble
from edgevirt.model.content import CipherBlock, ContentFormat, ImageConfig
from edgevirt.model.hardware import Adapter, DomainDevice
from edgevirt.model.ids import AppId, SnapshotId, VolumeId
from edgevirt.model.network import AppInterface
from edgevirt.model.snapshot import SnapshotReport, SnapshotType, SnapshotWish
from edgevirt.model.volume import Growth


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


def least_contained_kib(*, devices: bool) -> int:
    """Memory of a container in a virtual machine: with less its kernel does not come to the app.
    `devices`: one with devices of the node, but serial ports, has a larger one.
    """
    return (128 if devices else 96) * 1024


class Resources(Noun, frozen=True, kw_only=True):
    memory_kib: int
    max_memory_kib: int = 0
    vcpus: int = 1
    mode: VirtualizationMode = VirtualizationMode.PV
    boot_mode: BootMode = BootMode.UNSPECIFIED
    boot_order: BootOrder = BootOrder.UNSPECIFIED
    ordered: bool = False
    """A virtual machine finds its network interfaces, devices among them, by their `order`. (The
    wire's `enforce_network_interface_order`.)"""
    vmm_memory_kib: int = 0
    """What a virtual machine may take besides its own memory; 0: as `overhead_kib` reckons."""
    kernel: str = ""
    """Id of the app's volume that is the kernel to start, instead of booting from a disk."""
    ramdisk: str = ""
    """Id of the volume that is the kernel's initial RAM disk."""
    kernel_arguments: str = ""
    dedicated: bool = False
    """Real-time: each of its CPUs is a processor that nothing else runs on, and its memory is there
    from the start. (`pin_cpu` of the wire.)
    """
    tpm: bool = False
    """Whether a virtual machine has a TPM of its own."""
    vnc: Vnc | None = None
    rest: bytes = b""


def overhead_kib(resources: Resources) -> int:
    """KiB that running an app takes besides its memory: EVE's formula for a virtual machine
    (docs/MEMORY-SETTINGS.md): 370 MB, 2.5 % of its memory, 3 MB for each CPU, and 0.8 % for
    what it maps. A container takes none.
    """
    if resources.mode is VirtualizationMode.NOHYPER:
        return 0
    if resources.vmm_memory_kib:
        return resources.vmm_memory_kib
    return 370 * 1024 + resources.memory_kib * 33 // 1000 + resources.vcpus * 3 * 1024


class VolumeRef(Noun, frozen=True, kw_only=True):
    """A volume as an app uses it. The first of an app is its root."""

    volume: VolumeId
    generation: int = 0
    mount_dir: str = ""


class AppInstance(Noun, frozen=True, kw_only=True):
    """What the controller wants of an app. Key: `id`."""

    id: AppId
    name: str
    version: str = ""
    activate: bool = True
    resources: Resources
    volumes: tuple[VolumeRef, ...] = ()
    interfaces: tuple[AppInterface, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    """Devices of the machine that it has for itself."""
    restart_counter: int = 0
    purge_counter: int = 0
    user_data: str = ""
    """Base64 of `KEY=VALUE` lines or cloud-init, in clear."""
    cipher: CipherBlock | None = None
    """Holds the protected user data."""
    delay: int = 0
    """Seconds to wait before the first start after boot."""
    disable_logs: bool = False
    profiles: tuple[str, ...] = ()
    snapshot: SnapshotWish = SnapshotWish()
    rest: bytes = b""


class AppSecret(Noun, frozen=True, kw_only=True):
    """What an app's cipher block holds, in clear. Key: app id. trust → domains alone."""

    user_data: str
    vnc_password: str = ""
    """Instead of that of its `Vnc`, which is for those who know no other."""
    why: str = ""
    """«cannot decrypt: …» when there is none to be had yet."""


class AppInstanceStatus(Noun, frozen=True, kw_only=True):
    """Key: app id. `what` tells in words what is going on."""

    id: AppId
    name: str
    state: SwState
    since: float
    what: str = ""
    version: str = ""
    activated: bool = False
    progress: int = 0
    ips: tuple[tuple[str, str], ...] = ()
    """(interface, address)."""
    boot_time: float = 0.0
    """Of its last start, also while it waits to be started again after a failure."""
    restarts: int = 0
    """Starts after a crash, since the app was last changed."""
    restart_counter: int = 0
    purge_counter: int = 0
    """The counters of the controller that are done."""
    app_num: int = 0
    snapshots: tuple[SnapshotReport, ...] = ()
    """Oldest first."""
    trouble: Trouble | None = None


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


class DomainExit(Noun, frozen=True, kw_only=True):
    """A domain has ended by itself and wants to be looked at. Key: app id. domains alone."""

    at: float
    pid: int


class Saved(Noun, frozen=True, kw_only=True):
    """An app as it was before an update: its config; `volumes` keeps what it had on its disks."""

    id: SnapshotId
    app: AppInstance
    begun: float
    update: tuple[int, int]
    """(restart, purge) counters of the config that it was taken for."""
    copies: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    type: int = SnapshotType.APP_UPDATE
    taking: bool = False
    """Its app was told to end for it."""
    taken_at: float = 0.0
    """0.0: not taken yet."""
    why: str = ""
    """It could not be taken: this update is not made."""
    listed: bool = False
    """The controller has named it since it was taken."""
    unnamed_since: float = 0.0
    """Wall clock: the controller named it before, and does no more; 0.0: it does, or never did."""

    @property
    def taken(self) -> bool:
        return self.taken_at > 0.0


class Override(Noun, frozen=True, kw_only=True):
    """A config of before that is in force, until the controller's becomes another one."""

    snapshot: SnapshotId
    app: AppInstance
    instead_of: AppInstance
    """What the controller wanted at the time."""


class AppInstanceApplied(Noun, frozen=True, kw_only=True):
    """What of an app's config is in force. Key: app id. apps alone.

    Config that awaits a restart or a purge isn't. Persistent, so that after a restart of the
    node's services a running app is recognised and left alone.
    """

    app: AppInstance
    generation: int = 1
    """Of its domain; grows with each start within one run of the node."""
    domain: Domain | None = None
    """As last told to domains; None: it never ran."""
    boot: str = ""
    """The run of the node in which that was told: no domain outlives it."""
    snapshots: tuple[Saved, ...] = ()
    """Oldest first; the last may not be taken yet."""
    rollback_counter: int | None = None
    """Of the last rollback that is done; None: nobody looked at it yet."""
    rolling: str = ""
    """Id of the snapshot that it is being brought back to."""
    override: Override | None = None


class VolumeUse(Noun, frozen=True, kw_only=True):
    """Apps that use a volume, or may again: it stays, also when its config is gone.

    Key: volume key. apps → volumes. (A purge moves an app from old volumes to new ones; the
    config names the new ones only, while the app still runs on the old.)
    """

    apps: tuple[AppId, ...]
    packed: bool = False
    """One runs in a virtual machine, or is to: layers are needed as a disk."""
    yields: Growth | None = None
    """No domain has it, and none is started with it before it has grown so."""
