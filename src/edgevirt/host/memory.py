"""How a process and those that it forks share memory, and what they never take.

Measured by `make bench`: a node is many small processes forked from one.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE: Final = 64 << 10
_COMMAND_LINE: Final = "httpx._main"


def leave_out() -> None:
    """Before httpx is imported: its command line, with all that colours its output."""
    sys.modules.setdefault(_COMMAND_LINE, None)  # type: ignore[arg-type]  # an ImportError: it copes


def give_back() -> None:
    """What this process and its children free goes back to the kernel: one heap for all threads,
    none kept ahead. The C library would keep a heap for each thread, and what was once needed.
    """
    libc = ctypes.CDLL(None)
    for parameter, value in (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _LARGE),
        (_M_TRIM_THRESHOLD, _LARGE),
    ):
        libc.mallopt(parameter, value)


def share_of(pid: int) -> int:
    """Bytes of a process, what it shares counted by its share; 0 when it is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0
