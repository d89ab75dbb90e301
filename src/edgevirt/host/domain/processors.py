"""Processors that a real-time app has for itself.

One control group holds the groups of all such apps, and is a partition of its own: the kernel takes
its processors away from every other group, process 1 included, and balances nothing onto them.
(Control groups of version 2 alone: `cpuset.cpus.partition` in Documentation/admin-guide/cgroup-v2.)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from edgevirt.host.cgroup import ROOT, Cgroup
from edgevirt.host.hypervisor import HypervisorError

_SYSTEM: Final = Path("/sys/devices/system/cpu")
_KINDS: Final = ("isolated", "root")
"""The first is better: no load is balanced within it. Kernels before 6.1 know the second alone."""


class Partition(msgspec.Struct, frozen=True):
    """`path`: of its control group, directly below the root. What is held stands in the groups."""

    path: str
    root: Path = msgspec.field(default=ROOT)

    def refusal(self) -> str:
        """Why no app can have processors of its own here; empty: it can."""
        if not (self.root / "cgroup.controllers").exists():
            return "its control groups are of version 1"
        if "cpuset" not in (self.root / "cgroup.controllers").read_text().split():
            return "its control groups know no processors"
        if "/" in self.path.strip("/"):
            return "its control groups are below others"
        return ""

    def group(self, app: str) -> Cgroup:
        return Cgroup(f"{self.path}/{app}", self.root)

    def hold(self, app: str, cpus: Iterable[int]) -> None:
        """From here on nothing else runs on them. Raises HypervisorError, OSError."""
        why = self.refusal()
        if why:
            raise HypervisorError(f"cannot hold processors: {why}")
        group = self.group(app)
        group.create()
        _cpus_of(self.root / group.path).write_text(write_list(cpus))
        swap = self.root / group.path / "memory.swap.max"
        if swap.exists():  # what is paged out would have to be waited for
            swap.write_text("0")
        self._fit()
        self._divide()

    def held(self, app: str) -> tuple[int, ...]:
        file = _cpus_of(self.root / self.group(app).path)
        return parse_list(file.read_text()) if file.exists() else ()

    def give_back(self) -> None:
        """What is held by no group any more, to all others. Idempotent. Raises OSError."""
        if not (self.root / self.path).is_dir() or self.refusal():
            return
        if any(self._apps()):
            self._fit()
        else:
            Cgroup(self.path, self.root).remove()

    def _apps(self) -> Iterable[Path]:
        return (entry for entry in (self.root / self.path).iterdir() if entry.is_dir())

    def _fit(self) -> None:
        held = {cpu for app in self._apps() for cpu in parse_list(_cpus_of(app).read_text())}
        _cpus_of(self.root / self.path).write_text(write_list(held))

    def _divide(self) -> None:
        file = self.root / self.path / "cpuset.cpus.partition"
        said = ""
        for kind in _KINDS:
            if file.read_text().strip() in _KINDS:
                return
            try:
                file.write_text(kind)
                said = file.read_text().strip()
            except OSError as failure:
                said = str(failure)
            if said == kind:
                return
        raise HypervisorError(f"cannot hold processors: the kernel says {said!r}")


def read_cores(system: Path = _SYSTEM) -> tuple[tuple[int, ...], ...]:
    """The processors that are on, by the core that they are part of."""
    online = parse_list((system / "online").read_text())
    cores = {_core_of(system / f"cpu{cpu}", cpu) for cpu in online}
    return tuple(sorted(tuple(cpu for cpu in core if cpu in online) for core in cores))


def _core_of(directory: Path, cpu: int) -> tuple[int, ...]:
    try:
        return parse_list((directory / "topology" / "thread_siblings_list").read_text())
    except FileNotFoundError:
        return (cpu,)


def parse_list(text: str) -> tuple[int, ...]:
    """The kernel's form of a set of processors: `0-2,5`."""
    ends = (part.partition("-")[::2] for part in text.strip().split(",") if part)
    return tuple(cpu for low, high in ends for cpu in range(int(low), int(high or low) + 1))


def write_list(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def _cpus_of(directory: Path) -> Path:
    return directory / "cpuset.cpus"
