"""Huge pages for the memory of a real-time guest.

None are set aside: the kernel makes them when they are asked for, where it finds the room, and has
them back when the guest ends. (`nr_overcommit_hugepages` in Documentation/admin-guide/mm.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SIZE: Final = 2 << 20
"""Bytes of a page."""
_MAY_BE_MADE: Final = Path("/proc/sys/vm/nr_overcommit_hugepages")


def can_have(size: int) -> bool:
    """Whether `size` bytes are to be had now, found out by having them. Blocks."""
    if size % SIZE:
        return False
    try:
        _MAY_BE_MADE.write_text(str(_pages_of_machine()))
        memory = os.memfd_create("probe", os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    except OSError:
        return False
    try:
        os.posix_fallocate(memory, 0, size)
    except OSError:
        return False
    finally:
        os.close(memory)
    return True


def _pages_of_machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // SIZE
