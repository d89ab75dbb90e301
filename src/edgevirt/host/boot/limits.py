"""Bounds of the node's control groups, as CONFIG/grub.cfg gives them on the kernel's command line.

Names and defaults are EVE's. A value is a bare one, or in the form that EVE's variables have:
`hv_eve_mem_settings=eve_mem=650M,max:650M`, `hv_dom0_cpu_settings="dom0_max_vcpus=1"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from edgevirt.host.cgroup import Cgroup

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MEMORY: Final = re.compile(r"(?:max:|=|^)(\d+)([KMG]?)(?:B|iB)?(?=,|\s|$)", re.IGNORECASE)
_CPUS: Final = re.compile(r"(?:max_vcpus=|^)(\d+)(?=\s|$)")
_LEAST: Final = 128 << 20
"""Bytes below which a value is a slip of the pen: the node could not be reached."""


class Limit(msgspec.Struct, frozen=True):
    """Bytes, and processors; 0: no bound."""

    memory: int = 0
    cpus: int = 0


DEFAULTS: Final[Mapping[str, Limit]] = {
    "": Limit(800 << 20),
    "services": Limit(650 << 20),
    "containerd": Limit(400 << 20),
}
"""By group below the node's own."""
_ARGUMENTS: Final = {"": "dom0", "services": "eve", "containerd": "ctrd"}


def limits_of(arguments: Mapping[str, str]) -> dict[str, Limit]:
    """`arguments`: of the kernel. What cannot be read leaves the default in force."""
    found = {}
    for group, default in DEFAULTS.items():
        name = f"hv_{_ARGUMENTS[group]}"
        memory = parse_memory(arguments.get(f"{name}_mem_settings", ""))
        cpus = parse_cpus(arguments.get(f"{name}_cpu_settings", ""))
        found[group] = Limit(memory if memory >= _LEAST else default.memory, cpus)
    return found


def parse_memory(text: str) -> int:
    """The largest number in it: what follows `max:`, if anything does. 0: there is none."""
    numbers = _MEMORY.findall(text.strip())
    return max((int(digits) * _UNITS[unit.upper()] for digits, unit in numbers), default=0)


def parse_cpus(text: str) -> int:
    found = _CPUS.search(text.strip())
    return int(found[1]) if found else 0


def make_groups(root: str, limits: Mapping[str, Limit]) -> None:
    """The node's tree: `<root>`, its parts, and a place for apps beside it. Raises OSError."""
    for group, limit in limits.items():
        cgroup = Cgroup(f"{root}/{group}" if group else root)
        cgroup.create()
        cgroup.bound(memory=limit.memory, cpus=limit.cpus)
    Cgroup(f"{root}-user-apps").create()
    own = Cgroup(f"{root}/init")
    own.create()
    own.add(1)
