"""Control groups, the same to callers whether the machine has version 1 or 2.

A machine with version 1 controllers beside an empty version 2 tree (hybrid) counts as version 1.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpu", "memory", "pids", "io", "cpuset")
"""Passed on from each level to the next in version 2, where the machine has them."""
_PERIOD = 100_000
"""Microseconds; what a share of the processors is counted over."""
_ACCOUNTED = frozenset({"memory", "cpu", "cpuacct", "cpu,cpuacct", "pids"})
"""The version 1 hierarchies that a group made here is in. `cpuset` would need values first."""


class Usage(msgspec.Struct, frozen=True):
    """Bytes, and nanoseconds of processor time since the group was made. 0: not known."""

    cpu_ns: int = 0
    memory: int = 0
    memory_peak: int = 0
    memory_limit: int = 0
    disk_read: int = 0
    disk_write: int = 0


class Cgroup(msgspec.Struct, frozen=True):
    """One group. `path` is relative to the root of each hierarchy: `eve-user-apps/<uuid>`."""

    path: str
    root: Path = msgspec.field(default=ROOT)

    @property
    def unified(self) -> bool:
        return (self.root / "cgroup.controllers").exists()

    def directories(self) -> tuple[Path, ...]:
        """Its own in each hierarchy that a group made here is in."""
        return tuple(self._accounted())

    def exists(self) -> bool:
        return any(directory.is_dir() for directory in self._directories())

    def create(self) -> None:
        """Makes it and its parents, without limits. Idempotent."""
        if self.unified:
            self._delegate()
        for directory in self._accounted():
            directory.mkdir(parents=True, exist_ok=True)

    def _delegate(self) -> None:
        """Version 2: each level above passes its controllers on. Only a level without processes of
        its own may, so a group is either a place for processes or a place for groups.
        """
        directory = self.root
        for part in Path(self.path).parts:
            present = set(_read(directory / "cgroup.controllers").split())
            passed = set(_read(directory / "cgroup.subtree_control").split())
            for controller in _CONTROLLERS:
                if controller in present - passed:
                    (directory / "cgroup.subtree_control").write_text(f"+{controller}")
            directory /= part
            directory.mkdir(exist_ok=True)

    def bound(self, *, memory: int = 0, cpus: int = 0) -> None:
        """Bytes of memory without swap, and whole processors' time; 0 leaves a bound as it is."""
        if memory and self.unified:
            self._file("memory", "memory.max").write_text(str(memory))
        elif memory:
            self._file("memory", "memory.limit_in_bytes").write_text(str(memory))
        if cpus and self.unified:
            self._file("cpu", "cpu.max").write_text(f"{cpus * _PERIOD} {_PERIOD}")
        elif cpus:
            self._file("cpu", "cpu.cfs_quota_us").write_text(str(cpus * _PERIOD))

    def add(self, pid: int) -> None:
        """Moves a process, and what it will fork, into the group."""
        for directory in self._accounted():
            (directory / "cgroup.procs").write_text(str(pid))

    def pids(self) -> frozenset[int]:
        found: set[int] = set()
        for directory in self._directories():
            found.update(int(line) for line in _read(directory / "cgroup.procs").split())
        return frozenset(found)

    def kill(self) -> None:
        """SIGKILL to every process in it."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """Removes it and the groups below, where no process is left; True when nothing remains."""
        for directory in self._directories():
            for parent, _, _ in os.walk(directory, topdown=False):
                try:
                    os.rmdir(parent)
                except OSError as failure:
                    if failure.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTEMPTY):
                        raise
        return not self.exists()

    def out_of_memory(self) -> bool:
        """The kernel has killed a process of this group because it hit the group's limit."""
        return self.memory_kills() > 0

    def memory_kills(self) -> int:
        """How many it has killed for that, since the group was made."""
        name = "memory.events" if self.unified else "memory.oom_control"
        return _keyed(self._file("memory", name)).get("oom_kill", 0)

    def usage(self) -> Usage | None:
        """None when the group is gone."""
        if not self.exists():
            return None
        return self._usage_v2() if self.unified else self._usage_v1()

    def _usage_v2(self) -> Usage:
        reads, writes = _io_v2(_read(self._file("io", "io.stat")))
        return Usage(
            cpu_ns=_keyed(self._file("cpu", "cpu.stat")).get("usage_usec", 0) * 1000,
            memory=_number(self._file("memory", "memory.current")),
            memory_peak=_number(self._file("memory", "memory.peak")),
            memory_limit=_number(self._file("memory", "memory.max")),
            disk_read=reads,
            disk_write=writes,
        )

    def _usage_v1(self) -> Usage:
        reads, writes = _io_v1(_read(self._file("blkio", "blkio.throttle.io_service_bytes")))
        limit = _number(self._file("memory", "memory.limit_in_bytes"))
        return Usage(
            cpu_ns=_number(self._file("cpuacct", "cpuacct.usage")),
            memory=_number(self._file("memory", "memory.usage_in_bytes")),
            memory_peak=_number(self._file("memory", "memory.max_usage_in_bytes")),
            memory_limit=0 if limit >= 1 << 62 else limit,
            disk_read=reads,
            disk_write=writes,
        )

    def _file(self, controller: str, name: str) -> Path:
        base = self.root if self.unified else self.root / controller
        return base / self.path / name

    def _directories(self) -> Iterator[Path]:
        """The group in every hierarchy, also those where it is not."""
        if self.unified:
            yield self.root / self.path
            return
        for hierarchy in sorted(self.root.iterdir()):
            # "cpu" may be a symbolic link to "cpu,cpuacct"
            if hierarchy.is_dir() and not hierarchy.is_symlink():
                yield hierarchy / self.path

    def _accounted(self) -> Iterator[Path]:
        for directory in self._directories():
            if self.unified or directory.relative_to(self.root).parts[0] in _ACCOUNTED:
                yield directory


def swap_limited(root: Path = ROOT) -> bool:
    """Whether a group's swap can be limited; asking runc for it fails where it cannot."""
    if (root / "cgroup.controllers").exists():
        return True
    return (root / "memory" / "memory.memsw.limit_in_bytes").exists()


def _read(path: Path) -> str:
    """Empty when the file or its group is not there (any more)."""
    try:
        return path.read_text()
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return ""
        raise


def _number(path: Path) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _keyed(path: Path) -> dict[str, int]:
    """Lines of «name number»."""
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _io_v2(text: str) -> tuple[int, int]:
    """`8:0 rbytes=1 wbytes=2 rios=…`, a line per device."""
    totals = {"rbytes": 0, "wbytes": 0}
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals and name in totals:
            totals[name] += int(value)
    return totals["rbytes"], totals["wbytes"]


def _io_v1(text: str) -> tuple[int, int]:
    """`8:0 Read 1`, four lines and more per device, then `Total 3`."""
    totals = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in totals:
            totals[words[1]] += int(words[2])
    return totals["Read"], totals["Write"]
