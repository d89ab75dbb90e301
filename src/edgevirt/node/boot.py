"""`edgevirt node boot`: process 1 of the operating system, from the kernel's hand-over to the end.

Makes of a machine what host mode makes of a part of one: file systems, control groups, the three
trees; then it is init, and the supervisor runs as it does in host mode. When that ends, the machine
restarts or is switched off. What it does it says on the console, in words.

A node that cannot start says why and restarts: in a slot that is being tried this is the way back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
from msgspec.structs import replace

from edgevirt.host.boot import console, early, power
from edgevirt.host.boot.limits import limits_of, make_groups
from edgevirt.host.boot.release import RELEASE, read_release
from edgevirt.host.xen import first_domain
from edgevirt.model.disk import SLOT_ARGUMENT, Label
from edgevirt.node.ahead import Ahead
from edgevirt.node.init import LOST_FOR_GOOD, SHUTDOWN, be_init
from edgevirt.node.machine import PATHS, PERSIST, Machine, arm_watchdog, open_disk

if TYPE_CHECKING:
    from edgevirt.node.service import Service  # the engine is for who runs services

STOP_SECONDS: Final = 30.0
"""That apps get to end by themselves."""
_READABLE: Final = 20.0
"""Seconds that the reason of a failure stays on the screen."""
_END_SECONDS: Final = 5.0
_MOST_STARTS: Final = 5
"""Of the supervisor; when it died each time the machine restarts."""
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
    machine = arm_watchdog(machine)
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
    machine = open_disk(machine)
    machine.get_on()
    _set_clock(_last_run_time(), "the run before")
    _meet_hypervisor(machine)
    return machine


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


# -- the node ------------------------------------------------------------------------------------


def _be_node(machine: Machine, ahead: Ahead) -> int:
    def start(fresh: bool) -> int:
        from edgevirt.node.supervisor import booted  # process 1 itself stays light

        return booted.supervise(machine, booted.get_ready(machine), fresh=fresh)

    ahead.tell(msgspec.msgpack.encode(replace(machine, watchdog=None, loading=None)))
    code = be_init(start, STOP_SECONDS, _MOST_STARTS, ahead.pid)
    if code == LOST_FOR_GOOD:
        _record_loss(machine)
    return code


def _start_ahead(machine: Machine) -> Ahead:
    def get_ready() -> Mapping[str, Service]:
        from edgevirt.node.supervisor import booted

        return booted.get_ready(machine)

    def go_on(services: Mapping[str, Service], told: bytes) -> int:
        from edgevirt.node.supervisor import booted

        found = msgspec.msgpack.decode(told, type=Machine)
        found = replace(found, watchdog=machine.watchdog, loading=machine.loading)
        return booted.supervise(found, services, fresh=True)

    return Ahead(get_ready, go_on)


def _record_loss(machine: Machine) -> None:
    from edgevirt.model.machine import BootReason
    from edgevirt.node.supervisor.boot import End, record_end

    text = f"the supervisor died {_MOST_STARTS} times"
    try:
        end = End(at=time.time(), reason=BootReason.FATAL, text=text, slot=machine.slot)
        record_end(PATHS, end)
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
