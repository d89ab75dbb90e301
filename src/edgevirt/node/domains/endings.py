"""How a domain ended, in words; a machine's ends are others than a container's."""

from __future__ import annotations

import signal

from edgevirt.host.hypervisor import DomainInfo
from edgevirt.model.base import SwState
from edgevirt.model.domain import ENDED, Domain, VirtualizationMode


def is_machine(spec: Domain) -> bool:
    """Whether its ends are a machine's: those of a container count as its app's in a wall too."""
    return spec.mode is not VirtualizationMode.NOHYPER and not spec.is_container


def is_machine_lost(spec: Domain, info: DomainInfo) -> bool:
    """It was killed or crashed."""
    return is_machine(spec) and info.state == SwState.BROKEN and info.exit is not None


def why_ended(info: DomainInfo, spec: Domain) -> str:
    """`info`: of a domain that does not run any more."""
    if info.exit is None:
        return f"{ENDED}: what watched over it was killed"
    if info.exit.why:
        return info.exit.why
    if is_machine(spec) and info.exit.code == 0:
        return f"{ENDED}: the guest powered itself off"
    if info.exit.out_of_memory:
        return f"{ENDED}: it needed more memory than its {spec.memory_kib} KiB"
    if info.exit.code > 128:
        try:
            by = signal.Signals(info.exit.code - 128).name
        except ValueError:
            by = str(info.exit.code - 128)
        return f"{ENDED}: it was ended by signal {by}"
    return f"{ENDED}: it ended by itself with exit code {info.exit.code}"
