"""Apps: what the controller wants of them, how they fare, and what is kept of them."""

from __future__ import annotations

from edgevirt.model.access import Vnc
from edgevirt.model.base import Noun, SwState, Trouble
from edgevirt.model.content import CipherBlock
from edgevirt.model.domain import BootMode, BootOrder, Domain, VirtualizationMode
from edgevirt.model.hardware import Adapter
from edgevirt.model.ids import AppId, SnapshotId, VolumeId
from edgevirt.model.network import AppInterface
from edgevirt.model.snapshot import SnapshotReport, SnapshotType, SnapshotWish
from edgevirt.model.volume import Growth


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
    end: Trouble | None = None
    """Why the run before this one ended by itself, where `trouble` is about something else."""


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
