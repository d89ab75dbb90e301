"""`edgevirt node boot`: process 1 of the operating system, from the kernel's hand-over to the end.

Makes of a machine what host mode makes of a part of one: file systems, control groups, the three
trees; then it is init, and the supervisor runs as it does in host mode. When that ends, the machine
restarts or is switched off. What it does it says on the console, in words.

A node that cannot start says why and restarts: in a slot that is being tried this is the way back.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from msgspec.structs import replace

from edgevirt.host.boot import console, early, power
from edgevirt.host.boot.button import open_buttons
from edgevirt.host.boot.limits import limits_of, make_groups
from edgevirt.host.boot.newcomers import Newcomers
from edgevirt.host.boot.persist import PersistError, open_nothing, open_persist
from edgevirt.host.boot.release import RELEASE, read_release
from edgevirt.host.boot.watchdog import Watchdog, arm
from edgevirt.host.disk.config_partition import read_config
from edgevirt.host.disk.partitions import BootDisk, DiskError, boot_disk, data_disks
from edgevirt.host.stage import HOME, mount, name_hosts
from edgevirt.host.tpm.failures import TpmError
from edgevirt.host.tpm.measure import measure_config
from edgevirt.host.xen import first_domain
from edgevirt.model.disk import SLOT_ARGUMENT, Label
from edgevirt.model.gpt import TableError
from edgevirt.node.ahead import Ahead
from edgevirt.node.identity import Identity
from edgevirt.node.init import LOST_FOR_GOOD, SHUTDOWN, be_init
from edgevirt.node.paths import Paths
from edgevirt.node.service import Service, Settings

PERSIST: Final = Path("/persist")
HOSTNAME: Final = "edge-node"
STOP_SECONDS: Final = 30.0
"""That apps get to end by themselves."""
_READABLE: Final = 20.0
"""Seconds that the reason of a failure stays on the screen."""
_END_SECONDS: Final = 5.0
_MOST_STARTS: Final = 5
"""Of the supervisor; when it died each time the machine restarts."""
_WATCHDOG: Final = 60.0
"""Seconds until the hardware resets a machine that does not get on, or whose supervisor hangs."""
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATHS: Final = Paths(config=HOME / "config", persist=PERSIST, run=HOME / "run")
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


def main() -> NoReturn:
    """Never returns: ends with the machine's reset or its switching off."""
    if os.getpid() != 1:
        raise SystemExit("cannot boot: only process 1 of a machine can; see `edgevirt node run`")
    began = time.monotonic()
    os.environ["PATH"] = _PATH  # the kernel gives none
    off = False
    try:
        early.mount_kernel_file_systems()
        console.take_console()
        arguments = early.kernel_arguments()
        if arguments.get(SLOT_ARGUMENT) == Label.INSTALLER:
            off = not _be_installer(arguments)
        else:
            off = _be_machine(began, arguments)
    except BaseException as error:  # noqa: BLE001 - process 1 must not end: the kernel would panic
        console.say(f"cannot start the node: {error!r}; it restarts in {_READABLE:.0f} s")
        time.sleep(_READABLE)
    _end_machine(off)


def _be_installer(arguments: dict[str, str]) -> bool:
    """True when the machine is to start again."""
    from edgevirt.node.installer.program import be_installer  # a node never needs it

    loading = early.load_modules()
    _prepare_kernel()
    loading.finish()
    _set_clock(_image_time(), "the image")
    return be_installer(arguments)


def _be_machine(began: float, arguments: dict[str, str]) -> bool:
    """True when the machine is to be switched off."""
    machine = Machine(arguments, slot=arguments.get(SLOT_ARGUMENT, ""), version=_version())
    console.say(f"{machine.version or 'a node'} in slot {machine.slot or '?'}")
    machine = _arm_watchdog(machine)
    machine = replace(machine, loading=early.load_modules())
    ahead = _start_ahead(machine)
    _prepare_kernel()
    machine = _prepare(machine)
    _say_since(began, "the machine is ready; starting the node")
    return _be_node(machine, ahead) == SHUTDOWN


def _prepare_kernel() -> None:
    """Its settings, its keys. Its modules are on their way."""
    early.load_file_systems()
    early.apply_settings()
    early.raise_loopback()
    power.take_over_keys()


def _prepare(machine: Machine) -> Machine:
    """Everything that needs no service."""
    machine.get_on()
    _set_clock(_image_time(), "the image")
    _make_groups(machine.arguments)
    machine = _open_disk(machine)
    machine.get_on()
    _set_clock(_last_run_time(), "the run before")
    _meet_hypervisor(machine)
    return machine


def _arm_watchdog(machine: Machine) -> Machine:
    """At once where the boot chain armed one; later, where it had no driver for it."""
    seconds = _watchdog_seconds(machine)
    machine.get_on()
    if machine.watchdog is not None or not seconds:
        return machine
    return replace(machine, watchdog=arm(seconds))


def _meet_hypervisor(machine: Machine) -> None:
    """Without it no domain starts, and the node is reachable all the same."""
    under_xen = first_domain.is_xen()
    first_domain.KIND.write_text("xen\n" if under_xen else "kvm\n")
    if not under_xen:
        return
    machine.have_devices()  # its own among them
    try:
        console.say(f"the machine is {first_domain.be_first_domain()}")
    except (first_domain.XenError, OSError) as error:
        console.say(f"{error}; no virtual machine will run")


def _version() -> str:
    try:
        return read_release().version
    except (OSError, ValueError) as error:
        console.say(f"cannot read which version this is: {error}")
        return ""


def _image_time() -> float:
    return _modified(RELEASE)


def _last_run_time() -> float:
    return max(_modified(PERSIST / "boot.json"), _modified(PERSIST / "end.json"))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _set_clock(least: float, whose: str) -> None:
    if early.advance_clock(least):
        console.say(f"the clock was behind: it is set to the time of {whose}")


def _make_groups(arguments: dict[str, str]) -> None:
    try:
        make_groups("eve", limits_of(arguments))
    except OSError as error:
        console.say(f"cannot bound the node's memory: {error}; it runs without bounds")


# -- what is kept --------------------------------------------------------------------------------


def _open_disk(machine: Machine) -> Machine:
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
        said = measure_config(config, _PATHS.measured, _PATHS.firmware_log, _PATHS.tpm)
    except (TpmError, OSError) as error:
        said = f"cannot measure CONFIG: {error}; what the node proves will not be believed"
    console.say(said)


def _name_machine(hosts: bytes) -> None:
    name_hosts({HOSTNAME: "127.0.1.1", **_hosts(hosts)}, ())
    socket.sethostname(HOSTNAME)


def _give_config(files: dict[str, bytes], directory: Path) -> None:
    """Once in a run: the files for those who need them; nobody changes them after."""
    from edgevirt.node.given import write_config  # it knows all services, and so is not light

    if any(directory.iterdir()):
        return
    write_config(files, directory)
    flags = _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    mount(None, directory, None, flags, None)


def _hosts(text: bytes) -> dict[str, str]:
    """Name → address, from lines as in /etc/hosts."""
    found = {}
    for line in text.decode(errors="replace").splitlines():
        address, *names = line.split("#")[0].split() or [""]
        found.update(dict.fromkeys(names, address))
    return found


# -- the node ------------------------------------------------------------------------------------


def _be_node(machine: Machine, ahead: Ahead) -> int:
    def start(fresh: bool) -> int:
        return _supervise(machine, _get_ready(machine), fresh=fresh)

    ahead.tell(msgspec.msgpack.encode(replace(machine, watchdog=None, loading=None)))
    code = be_init(start, STOP_SECONDS, _MOST_STARTS, ahead.pid)
    if code == LOST_FOR_GOOD:
        _record_loss(machine)
    return code


def _start_ahead(machine: Machine) -> Ahead:
    def go_on(services: Mapping[str, Service], told: bytes) -> int:
        found = msgspec.msgpack.decode(told, type=Machine)
        found = replace(found, watchdog=machine.watchdog, loading=machine.loading)
        return _supervise(found, services, fresh=True)

    return Ahead(lambda: _get_ready(machine), go_on)


def _get_ready(machine: Machine) -> Mapping[str, Service]:
    from edgevirt.node.supervisor.start import get_ready  # process 1 itself stays light

    return get_ready(machine.get_on)


def _supervise(machine: Machine, services: Mapping[str, Service], *, fresh: bool) -> int:
    from edgevirt.node.supervisor.start import supervise  # loaded by now
    from edgevirt.node.supervisor.supervisor import Options

    _give_config(machine.config, _PATHS.config)
    newcomers = _hear_of_newcomers()  # before the last look at who is there
    machine.have_devices()  # they came while our own code was read
    watchdog = _arm_watchdog(machine).watchdog
    identity = Identity(dict(machine.partitions).get(Label.CONFIG), machine.config, _PATHS)
    settings = Settings(
        serial=early.serial_number(),
        cgroup="eve",
        host_mode=False,
        version=machine.version,
        slot=machine.slot,
        disk=machine.disk,
        partitions=machine.partitions,
        lost=machine.lost,
        notes=machine.notes,
    )
    options = Options(
        fresh=fresh,
        watchdog=watchdog,
        keep_identity=identity.keep,
        buttons=open_buttons(),
        newcomers=newcomers,
    )
    return supervise(_PATHS, settings, options, services=services)


def _hear_of_newcomers() -> Newcomers | None:
    try:
        return Newcomers()
    except OSError as error:
        console.say(f"cannot hear of new devices: {error}; what is plugged in has to be at a start")
        return None


def _watchdog_seconds(machine: Machine) -> float:
    """`edgevirt.watchdog=SECONDS`, or the default; 0 leaves it alone."""
    text = machine.arguments.get("edgevirt.watchdog", "")
    return float(text) if text.isdecimal() else _WATCHDOG


def _record_loss(machine: Machine) -> None:
    from edgevirt.model.machine import BootReason
    from edgevirt.node.supervisor.boot import End, record_end

    text = f"the supervisor died {_MOST_STARTS} times"
    try:
        end = End(at=time.time(), reason=BootReason.FATAL, text=text, slot=machine.slot)
        record_end(_PATHS, end)
    except OSError as error:
        console.say(f"cannot write down why the node ends: {error}")


def _end_machine(off: bool) -> NoReturn:
    act: Callable[[], None] = power.power_off if off else power.reset
    console.say("switching off" if off else "restarting")
    try:
        power.end_processes(_END_SECONDS)
        for point in power.release_disks():
            console.say(f"cannot unmount {point}: its last writes may be lost")
    finally:
        act()
        while True:  # the kernel refused, or takes its time
            time.sleep(_READABLE)
            power.reset()


def _say_since(began: float, text: str) -> None:
    console.say(f"{text} ({time.monotonic() - began:.1f} s)")
