"""Devices that come while the machine runs: what drives them is loaded, as it was at the boot for
those that were there. Nothing else on a node can load a module.
"""

from __future__ import annotations

import logging
import socket
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

_LOG: Final = logging.getLogger("edgevirt.supervisor")
_UEVENTS: Final = 15
"""NETLINK_KOBJECT_UEVENT."""
_FROM_KERNEL: Final = 1
_KERNEL: Final = 0
"""Whose words count: anybody with rights over the network can speak there."""
_MOST: Final = 16384
_MOST_WAITING: Final = 256


class Newcomers:
    """To be asked to `hear` when there is something to read, and now and then. Raises OSError."""

    def __init__(self, start: Callable[[Iterable[str]], subprocess.Popen[bytes]] | None = None):
        """`start`: loads what drives devices of these aliases."""
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._events = socket.socket(socket.AF_NETLINK, kind, _UEVENTS)
        self._events.bind((0, _FROM_KERNEL))
        self._start = start or _modprobe
        self._waiting: dict[str, None] = {}
        self._loading: subprocess.Popen[bytes] | None = None

    def fileno(self) -> int:
        return self._events.fileno()

    def hear(self) -> None:
        """Does not wait."""
        found: list[str] = []
        with suppress(OSError):  # none left; or more than fit, which are lost
            while True:
                told, (sender, _) = self._events.recvfrom(_MOST)
                if sender == _KERNEL:
                    found += aliases(told)
        self.load(found)

    def load(self, wanted: Iterable[str] = ()) -> None:
        """One loading at a time: what comes meanwhile is the next one's."""
        for one in wanted:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting[one] = None
        if self._loading is not None and self._loading.poll() is None:
            return
        self._loading = None
        if not self._waiting:
            return
        waiting, self._waiting = tuple(self._waiting), {}
        try:
            self._loading = self._start(waiting)
        except OSError as error:
            _LOG.error("cannot load what drives a new device: %s", error)

    def close(self) -> None:
        self._events.close()

    @property
    def busy(self) -> bool:
        """Whether to ask again, though there may be nothing to read."""
        return self._loading is not None


def aliases(told: bytes) -> tuple[str, ...]:
    """Of a device that came: by what modules say that they drive. Empty: it is no such message."""
    first, *fields = told.split(b"\0")
    if not first.startswith(b"add@"):
        return ()
    found = (one.partition(b"=") for one in fields)
    return tuple(
        value.decode("ascii", errors="replace") for key, _, value in found if key == b"MODALIAS"
    )


def _modprobe(wanted: Iterable[str]) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        ["modprobe", "-a", "-q", "-b", "--", *wanted], stdin=nothing, stdout=nothing, stderr=nothing
    )
