"""The machine that a node is process 1 of: what is known of it, and where it keeps what.

The node goes on without its data, and without its CONFIG: it says so, and can still be reached.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from edgevirt.host.boot import console, early
from edgevirt.host.boot.persist import PersistError, open_nothing, open_persist
from edgevirt.host.boot.watchdog import Watchdog, arm
from edgevirt.host.disk.config_partition import read_config
from edgevirt.host.disk.partitions import BootDisk, DiskError, boot_disk, data_disks
from edgevirt.host.stage import HOME, mount, name_hosts
from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.measure import measure_config
from edgevirt.model.disk import Label
from edgevirt.model.gpt import TableError
from edgevirt.node.paths import Paths

PERSIST: Final = Path("/persist")
PATHS: Final = Paths(config=HOME / "config", persist=PERSIST, run=HOME / "run")
HOSTNAME: Final = "edge-node"
_WATCHDOG: Final = 60.0
"""Seconds until the hardware resets a machine that does not get on, or whose supervisor hangs."""
_RUN_SIZE: Final = "256m"
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32


class Machine(msgspec.Struct, frozen=True):
    """What is known of it before the node starts. `lost`: why nothing is kept in this run."""

    arguments: dict[str, str]
    slot: str
    version: str
    disk: str = ""
    lost: str = ""
    notes: tuple[str, ...] = ()
    partitions: tuple[tuple[str, str], ...] = ()
    config: dict[str, bytes] = msgspec.field(default_factory=dict)
    watchdog: Watchdog | None = None
    loading: early.Loading | None = None

    def have_devices(self) -> None:
        """All of them have their drivers."""
        if self.loading is not None:
            self.loading.finish()

    def get_on(self) -> None:
        """A step is done: the watchdog, which the boot chain armed, is fed."""
        if self.watchdog is not None:
            self.watchdog.feed()


def arm_watchdog(machine: Machine) -> Machine:
    """At once where the boot chain armed one; later, where it had no driver for it."""
    seconds = _watchdog_seconds(machine)
    machine.get_on()
    if machine.watchdog is not None or not seconds:
        return machine
    return replace(machine, watchdog=arm(seconds))


def _watchdog_seconds(machine: Machine) -> float:
    """`edgevirt.watchdog=SECONDS`, or the default; 0 leaves it alone."""
    text = machine.arguments.get("edgevirt.watchdog", "")
    return float(text) if text.isdecimal() else _WATCHDOG


def open_disk(machine: Machine) -> Machine:
    """The data partition on /persist, CONFIG in its tree. Without the first the node goes on."""
    disk: BootDisk | None = None
    try:
        disk = boot_disk()
    except (DiskError, OSError) as error:
        machine = replace(machine, lost=str(error))
    else:
        lost, said = _open_persist(disk, machine)
        machine = replace(machine, disk=str(disk.device), lost=lost, notes=said)
        machine = replace(machine, partitions=_partitions(disk))
    if machine.lost:
        console.say(f"{machine.lost}; nothing is kept in this run, and no app is started")
        open_nothing(PERSIST)
    _make_home()
    machine = replace(machine, config=_read_config(disk))
    _measure(machine.config)
    _name_machine(machine.config.get("hosts", b""))
    return machine


def _open_persist(disk: BootDisk, machine: Machine) -> tuple[str, tuple[str, ...]]:
    """Why it cannot be had (empty when it is there), and what was done to it."""
    try:
        if disk.find(Label.P3) is None:
            machine.have_devices()  # it may be on another disk: then none is made here
        _add_missing(disk)
        found = disk.find(Label.P3)
        for other in data_disks(disk) if found is None else ():
            found = found or other.find(Label.P3)
        if found is None:
            return "cannot keep anything: no disk has a partition P3, nor room for one", ()
        said = open_persist(found.device, PERSIST, machine.get_on)
    except (DiskError, TableError, PersistError, OSError) as error:
        return str(error), ()
    if not said:
        return "", ()
    note = f"{found.device} (P3): {said}"
    console.say(note)
    return "", (note,)


def _partitions(disk: BootDisk) -> tuple[tuple[str, str], ...]:
    """(label, device) of those that are there."""
    try:
        found = [disk.find(label) for label in Label]
    except TableError as error:
        console.say(str(error))
        return ()
    return tuple((str(part.label), str(part.device)) for part in found if part is not None)


def _add_missing(disk: BootDisk) -> None:
    wanted = [Label.IMGA, Label.IMGB, Label.P3]
    if disk.find(Label.P3) is None and data_disks(disk):
        wanted.remove(Label.P3)  # data is on a disk of its own
    try:
        made = disk.add_missing(wanted)
    except DiskError as error:
        console.say(str(error))
        return
    if made:
        console.say(f"made the partitions {', '.join(made)} on {disk.device}")


def _make_home() -> None:
    for name in ("config", "run", "etc"):
        (HOME / name).mkdir(parents=True, exist_ok=True)
    options = f"mode=711,size={_RUN_SIZE}"
    mount("tmpfs", HOME / "run", "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    mount("tmpfs", HOME / "config", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=16m")


def _read_config(disk: BootDisk | None) -> dict[str, bytes]:
    """CONFIG's files; none when there is none to be read, which is said."""
    try:
        found = disk.find(Label.CONFIG) if disk is not None else None
        if found is None:
            console.say("cannot find the partition CONFIG: the node does not know its controller")
            return {}
        return read_config(found.device)
    except (OSError, TableError) as error:
        console.say(f"cannot read CONFIG: {error}")
        return {}


def _measure(config: dict[str, bytes]) -> None:
    """What the node was given, into the TPM, before anything heeds it."""
    try:
        said = measure_config(config, PATHS.measured, PATHS.firmware_log, PATHS.tpm)
    except (TpmError, OSError) as error:
        said = f"cannot measure CONFIG: {error}; what the node proves will not be believed"
    console.say(said)


def _name_machine(hosts: bytes) -> None:
    name_hosts({HOSTNAME: "127.0.1.1", **_hosts(hosts)}, ())
    socket.sethostname(HOSTNAME)


def close_config() -> None:
    """Nobody changes it in this run any more."""
    flags = _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    mount(None, PATHS.config, None, flags, None)


def _hosts(text: bytes) -> dict[str, str]:
    """Name → address, from lines as in /etc/hosts."""
    found = {}
    for line in text.decode(errors="replace").splitlines():
        address, *names = line.split("#")[0].split() or [""]
        found.update(dict.fromkeys(names, address))
    return found
