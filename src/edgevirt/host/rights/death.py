"""How a process ends with the one that it serves. Apart: the first process needs nothing more."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """SIGKILL to the calling process when the one that forked it is gone."""
    if _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot end with process {parent}: {os.strerror(code)}")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
