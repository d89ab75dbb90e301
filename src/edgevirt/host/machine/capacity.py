"""How big this machine is."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Capacity(msgspec.Struct, frozen=True):
    memory_kib: int
    cpus: int


def read_capacity(meminfo: Path = Path("/proc/meminfo")) -> Capacity:
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return Capacity(int(fields["MemTotal"].split()[0]), os.cpu_count() or 1)
