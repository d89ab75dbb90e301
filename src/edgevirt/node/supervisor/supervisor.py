"""The process that all services are forked from: warmed once, then only forking and watching.

It has no event loop, no thread and no socket of the store, so that a fork is safe at any time.
What is due is decided in `keeping`; this does it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from edgevirt.host.boot.button import is_pressed
from edgevirt.host.boot.newcomers import Newcomers
from edgevirt.host.boot.watchdog import Watchdog
from edgevirt.model.machine import BootReason
from edgevirt.model.node import ServiceStatus
from edgevirt.node.init import REBOOT, SHUTDOWN, STOPPED
from edgevirt.node.service import Service
from edgevirt.node.services import Row, WithVault
from edgevirt.node.supervisor.boot import End, record_end
from edgevirt.node.supervisor.child import SPOKESMAN, Work
from edgevirt.node.supervisor.children import OUT_OF_MEMORY, Child, Children
from edgevirt.node.supervisor.directories import prepare_vault
from edgevirt.node.supervisor.keeping import (
    Ask,
    Dump,
    GiveUp,
    Keeping,
    Kill,
    Limits,
    Start,
)
from edgevirt.node.supervisor.status import Heard, Told

_LOG: Final = logging.getLogger("edgevirt.supervisor")

_FAREWELL: Final = 180.0
"""Seconds that the whole machine may take to end."""
_LOADING: Final = 1.0
"""Seconds between two looks whether modules are loaded."""
_MEASURE: Final = 60.0
"""Seconds between two looks at the services' memory."""


class Options(msgspec.Struct, frozen=True):
    """`beat`: seconds between two heartbeats. `fresh`: the node starts; else only we do."""

    limits: Limits = msgspec.field(default_factory=Limits)
    beat: float = 5.0
    fresh: bool = True
    watchdog: Watchdog | None = None
    """Armed: from now on fed here alone. None: there is none, or it is left alone."""
    keep_identity: Callable[[], bool] | None = None
    """Called now and then until it returns True: see `node.identity`."""
    buttons: tuple[int, ...] = ()
    """Descriptors of power buttons: who presses one wants the node to end."""
    newcomers: Newcomers | None = None
    """Devices whose drivers nobody else loads."""


class Supervisor:
    """Starts the services, watches them and ends them; `run` once."""

    def __init__(
        self,
        work: Work,
        rows: Mapping[str, Row],
        services: Mapping[str, Service],
        options: Options,
        *,
        vault_open: bool,
    ) -> None:
        """`vault_open`: what lies in the vault can be used from the start."""
        self._work = work
        self._rows = rows
        self._keeping = Keeping(options.limits)
        self._selector = selectors.DefaultSelector()
        self._children = Children(work, rows, services, self._selector)
        self._outcome = STOPPED
        self._told: dict[str, ServiceStatus] = {}
        self._memory: dict[str, int] = {}
        self._measure_at = 0.0
        self._vault_open = vault_open
        self._keep_identity = options.keep_identity
        self._buttons = options.buttons
        self._newcomers = options.newcomers
        self._watchdog = options.watchdog
        if self._watchdog is not None:
            known = ", ".join(self._watchdog.names)
            _LOG.info("watchdog: %s, %.0f s", known, self._watchdog.timeout)

    def run(self) -> int:
        """Until SIGTERM or an operation: an exit code of the node."""
        wake = self._listen_to_signals()
        for button in self._buttons:
            self._selector.register(button, selectors.EVENT_READ)
        if self._newcomers is not None:
            self._selector.register(self._newcomers, selectors.EVENT_READ)
        held = [name for name in self._rows if self._waits(name)]
        self._keeping.keep(self._rows, time.monotonic(), held)
        while not self._keeping.ended:
            if self._watchdog is not None:
                self._watchdog.feed()
            self._act()
            self._tell()
            if self._newcomers is not None:
                self._newcomers.hear()
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is wake:
                    self._take_signals(wake)
                elif key.fileobj is self._newcomers:
                    continue  # heard next
                elif key.data is None:
                    self._look_at_button(key.fd)
                else:
                    self._take(key.data, pidfd=isinstance(key.fileobj, int))
        return self._outcome

    def _listen_to_signals(self) -> socket.socket:
        wake, written = socket.socketpair()
        wake.setblocking(False)
        written.setblocking(False)
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)
        self._selector.register(wake, selectors.EVENT_READ)
        self._written = written
        return wake

    def _take_signals(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wake.recv(4096)
        if not self._keeping.stopping:
            _LOG.info("asked to stop")
            self._end(BootReason.POWEROFF_COMMAND, "the node was asked to stop", STOPPED)

    def _look_at_button(self, button: int) -> None:
        try:
            pressed = is_pressed(button)
        except OSError:  # unplugged
            self._selector.unregister(button)
            return
        if pressed:
            _LOG.info("the power button was pressed")
            self._end(BootReason.POWEROFF_COMMAND, "the power button was pressed", SHUTDOWN)

    def _patience(self) -> float:
        now = time.monotonic()
        due = self._keeping.next()
        soonest = self._measure_at if due is None else min(due, self._measure_at)
        if self._watchdog is not None:
            soonest = min(soonest, now + self._watchdog.timeout / 3)
        if self._newcomers is not None and self._newcomers.busy:
            soonest = min(soonest, now + _LOADING)
        return max(0.0, soonest - now)

    # -- what is due -----------------------------------------------------------------------------

    def _act(self) -> None:
        now = time.monotonic()
        for action in self._keeping.actions(now):
            if isinstance(action, Start):
                self._start(action.name)
            elif isinstance(action, Ask):
                os.kill(action.pid, signal.SIGTERM)
            elif isinstance(action, Dump):
                os.kill(action.pid, signal.SIGUSR1)
            elif isinstance(action, Kill):
                self._children.keep_stack(action.name, "hangs")
                _LOG.error("%s %s", action.name, action.why)
                os.kill(action.pid, signal.SIGKILL)
            else:
                self._give_up(action)
        if now >= self._measure_at:
            self._measure_at = now + _MEASURE
            if self._keep_identity is not None and self._keep_identity():
                self._keep_identity = None
            self._memory = self._children.memory()

    def _give_up(self, action: GiveUp) -> None:
        reason = BootReason.WATCHDOG_HUNG if action.hung else BootReason.WATCHDOG_PID
        if OUT_OF_MEMORY in action.why:
            reason = BootReason.OOM
        _LOG.error("the node restarts: %s", action.why)
        self._end(reason, action.why, REBOOT, self._children.stacks.get(action.name, ""))

    def _start(self, name: str) -> None:
        child = self._children.start(name)
        self._keeping.started(name, child.pid, time.monotonic())
        if name == SPOKESMAN:
            self._told.clear()

    # -- what happened ---------------------------------------------------------------------------

    def _take(self, child: Child, *, pidfd: bool) -> None:
        if self._children.get(child.name) is not child:
            return
        if pidfd:
            self._bury(child)
            return
        message = self._children.hear(child)
        if message == b"\0":
            self._keeping.beat(child.name, time.monotonic())
        elif message and child.name == SPOKESMAN:
            self._heed(message)

    def _bury(self, child: Child) -> None:
        how = self._children.reap(child)
        renewed = self._keeping.services[child.name].renewing
        self._keeping.exited(child.name, how, time.monotonic())
        if renewed:
            _LOG.info("%s ended to be started anew", child.name)
        elif not self._keeping.stopping:
            _LOG.error("%s ended: %s", child.name, self._keeping.services[child.name].last_exit)

    def _heed(self, message: bytes) -> None:
        try:
            heard = msgspec.json.decode(message, type=Heard)
        except msgspec.MsgspecError as error:
            _LOG.error("cannot read what was heard: %s", error)
            return
        if heard.vault_closed:
            self._go_on_without()
        if heard.vault_open:
            self._open_gate()
        wish = heard.wish
        if wish is not None:
            self._end(wish.reason, wish.why, SHUTDOWN if wish.off else REBOOT, wish.stack)

    # -- the vault -------------------------------------------------------------------------------

    def _waits(self, name: str) -> bool:
        waiting = (WithVault.WAITS, WithVault.HEARS)
        return not self._vault_open and self._rows[name].vault in waiting

    def _go_on_without(self) -> None:
        """The vault stays closed, for now: what can do without it does what can be done."""
        now = time.monotonic()
        for name, row in self._rows.items():
            if row.vault is WithVault.HEARS:
                self._keeping.release(name, now)

    def _open_gate(self) -> None:
        """What lies in the vault can be used from now on."""
        if self._vault_open:
            return
        _LOG.info("the vault is open: what waited for it starts")
        prepare_vault(self._work.paths)
        self._vault_open = True
        now = time.monotonic()
        for name, row in self._rows.items():
            if row.vault in (WithVault.STARTS_ANEW, WithVault.HEARS):
                self._keeping.renew(name)  # if it runs
            self._keeping.release(name, now)

    # -- the end ---------------------------------------------------------------------------------

    def _end(self, reason: BootReason, text: str, outcome: int, stack: str = "") -> None:
        """The first reason counts."""
        if self._keeping.stopping:
            return
        slot = self._work.settings.slot
        end = End(at=time.time(), reason=reason, text=text, stack=stack, slot=slot)
        try:
            record_end(self._work.paths, end)
        except OSError as error:
            _LOG.error("cannot write down why the node ends: %s", error)
        if self._watchdog is not None:
            self._watchdog.allow(_FAREWELL)
        self._outcome = outcome
        self._keeping.stop()

    # -- what is told ----------------------------------------------------------------------------

    def _tell(self) -> None:
        """What changed since the last time, to the process that publishes it."""
        spokesman = self._children.get(SPOKESMAN)
        if spokesman is None:
            return
        present = {name: self._status(name) for name in self._rows}
        news = [Told(name, now) for name, now in present.items() if self._told.get(name) != now]
        if not news:
            return
        try:
            spokesman.channel.send(msgspec.json.encode(news))
        except BlockingIOError:
            return  # it is slow; told when something happens next
        except ConnectionError:
            return  # it is gone; its successor is told everything
        self._told = present

    def _status(self, name: str) -> ServiceStatus:
        kept = self._keeping.services[name]
        return ServiceStatus(
            pid=kept.pid,
            since=self._children.since.get(name, 0.0),
            starts=kept.starts,
            last_exit=kept.last_exit,
            waits="the vault is not open" if kept.held else "",
            memory_bytes=self._memory.get(name, 0),
        )
