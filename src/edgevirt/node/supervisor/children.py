"""The services' processes, seen from their parent: forked, heard, and what they died of."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from edgevirt.host import memory
from edgevirt.host.rights.confine import limit_memory
from edgevirt.node.service import Service
from edgevirt.node.services import Row
from edgevirt.node.supervisor.child import (
    Work,
    be_service,
    confinement,
    read_stack,
    service_group,
)
from edgevirt.node.supervisor.status import MESSAGE_MAX

_LOG: Final = logging.getLogger("edgevirt.supervisor")

OUT_OF_MEMORY: Final = "out of memory"
_CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
)
"""Of native code; the interpreter writes down where it was."""


class Child(msgspec.Struct):
    """A running service."""

    name: str
    pid: int
    pidfd: int
    channel: socket.socket


class Children:
    """By service. Each is in `selector` with its Child as data: by its pidfd, which tells its end,
    and by its channel, on which it speaks.
    """

    def __init__(
        self,
        work: Work,
        rows: Mapping[str, Row],
        services: Mapping[str, Service],
        selector: selectors.BaseSelector,
    ) -> None:
        self._work = work
        self._rows = rows
        self._services = services
        self._selector = selector
        self._limits = {name: confinement(work, row) for name, row in rows.items()}
        self._running: dict[str, Child] = {}
        self._kills: dict[str, int] = {}
        self.since: dict[str, float] = {}
        """When each was last started: UNIX seconds."""
        self.stacks: dict[str, str] = {}
        """Where each was last seen to hang or crash, if ever."""

    def get(self, name: str) -> Child | None:
        return self._running.get(name)

    def memory(self) -> dict[str, int]:
        """Bytes: each one's share of what it uses."""
        return {child.name: memory.share_of(child.pid) for child in self._running.values()}

    def start(self, name: str) -> Child:
        """It does not run. Raises OSError."""
        group = service_group(self._work.settings, name)
        limit_memory(group, self._rows[name].memory)
        own = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            be_service(self._work, self._limits[name], self._services[name], theirs.detach(), own)
        group.add(pid)
        theirs.close()
        ours.setblocking(False)
        child = Child(name, pid, os.pidfd_open(pid), ours)
        self._running[name] = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        self.since[name] = time.time()
        _LOG.info("started %s as process %d", name, pid)
        return child

    def hear(self, child: Child) -> bytes:
        """What it said; empty: nothing, or it closed its end, and its pidfd tells the rest."""
        try:
            message = child.channel.recv(MESSAGE_MAX)
        except BlockingIOError:
            return b""
        except ConnectionError:
            message = b""
        if not message:
            self._selector.unregister(child.channel)
        return message

    def reap(self, child: Child) -> str:
        """It ended: how, in words."""
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.pidfd)
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.channel)
        os.close(child.pidfd)
        child.channel.close()
        del self._running[child.name]
        code = os.waitstatus_to_exitcode(status)
        if -code in _CRASHES:
            self.keep_stack(child.name, "crashed")
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        return f"{how}: {OUT_OF_MEMORY}" if self._ran_out_of_memory(child.name) else how

    def keep_stack(self, name: str, how: str) -> None:
        """What a service wrote down that hung, or crashed."""
        stack = read_stack(self._work.paths, name)
        if stack:
            self.stacks[name] = stack
            _LOG.error("%s %s here:\n%s", name, how, stack)

    def _ran_out_of_memory(self, name: str) -> bool:
        """Since the last time that we asked."""
        count = service_group(self._work.settings, name).memory_kills()
        before = self._kills.get(name, 0)
        self._kills[name] = count
        return count > before
