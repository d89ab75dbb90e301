"""The supervisor of a machine that the node has to itself: what it loads, what it is told of it.

Process 1 itself loads none of this: it forks first.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgevirt.host.boot import console, early
from edgevirt.host.boot.button import open_buttons
from edgevirt.host.boot.newcomers import Newcomers
from edgevirt.model.disk import Label
from edgevirt.node.given import write_config
from edgevirt.node.identity import Identity
from edgevirt.node.machine import PATHS, Machine, arm_watchdog, close_config
from edgevirt.node.service import Service, Settings
from edgevirt.node.supervisor import start
from edgevirt.node.supervisor.supervisor import Options


def get_ready(machine: Machine) -> Mapping[str, Service]:
    """All that does not need the machine to be ready."""
    return start.get_ready(machine.get_on)


def supervise(machine: Machine, services: Mapping[str, Service], *, fresh: bool) -> int:
    """Until the node ends; the exit code tells process 1 what is to follow."""
    _give_config(machine.config)
    newcomers = _hear_of_newcomers()  # before the last look at who is there
    machine.have_devices()  # they came while our own code was read
    watchdog = arm_watchdog(machine).watchdog
    identity = Identity(dict(machine.partitions).get(Label.CONFIG), machine.config, PATHS)
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
    return start.supervise(PATHS, settings, options, services=services)


def _give_config(files: Mapping[str, bytes]) -> None:
    """Once in a run: the files for those who need them; nobody changes them after."""
    if any(PATHS.config.iterdir()):
        return
    write_config(files, PATHS.config)
    close_config()


def _hear_of_newcomers() -> Newcomers | None:
    try:
        return Newcomers()
    except OSError as error:
        console.say(f"cannot hear of new devices: {error}; what is plugged in has to be at a start")
        return None
