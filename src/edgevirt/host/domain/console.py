"""Where a domain's serial line is to be had: a socket in its bundle, which outlives the service."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from edgevirt.host.hypervisor import HypervisorError

CONSOLE: Final = "console"
"""In the bundle."""


def connect(path: Path) -> socket.socket:
    """One is served at a time; another one waits in the queue, and hears nothing. Raises
    HypervisorError.
    """
    found = socket.socket(socket.AF_UNIX)
    try:
        found.connect(str(path))
    except OSError as failure:
        found.close()
        raise HypervisorError(f"cannot attach: {failure}") from failure
    return found
