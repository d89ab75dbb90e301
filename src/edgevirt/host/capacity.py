"""How big this machine is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Capacity:
    memory_kib: int
    cpus: int


def read_capacity(meminfo: Path = Path("/proc/meminfo")) -> Capacity:
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return Capacity(int(fields["MemTotal"].split()[0]), os.cpu_count() or 1)
