"""Notices at once that a domain has ended, and says so in the store, which wakes the reconciler."""

from __future__ import annotations

import asyncio
import logging

from edgevirt.host.hypervisor import Hypervisor, HypervisorError
from edgevirt.model.domain import DomainExit
from edgevirt.model.ids import AppId
from edgevirt.model.kinds import DOMAIN_EXIT
from edgevirt.runtime import Clock, Store

_LOG = logging.getLogger("edgevirt.domains")


class ExitWatch:
    """One waiting task per running domain."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tasks: dict[AppId, tuple[int, asyncio.Task[None]]] = {}

    def watch(self, hypervisor: Hypervisor, app: AppId, pid: int) -> None:
        """Again for the same process: no effect. For another one: the old is forgotten."""
        known = self._tasks.get(app)
        if known is not None and known[0] == pid and not known[1].done():
            return
        self._cancel(app)
        task = asyncio.create_task(self._wait(hypervisor, app, pid), name=f"exit of {app}")
        self._tasks[app] = (pid, task)

    async def forget(self, app: AppId) -> None:
        """The app is gone for good."""
        self._cancel(app)
        await self._store.delete(DOMAIN_EXIT, app)

    def close(self) -> None:
        for app in list(self._tasks):
            self._cancel(app)

    def _cancel(self, app: AppId) -> None:
        known = self._tasks.pop(app, None)
        if known is not None:
            known[1].cancel()

    async def _wait(self, hypervisor: Hypervisor, app: AppId, pid: int) -> None:
        try:
            await hypervisor.wait_exit(app)
        except (HypervisorError, OSError) as failure:
            _LOG.warning("cannot wait for the end of %s: %s; polled instead", app, failure)
            return
        await self._store.put(DOMAIN_EXIT, app, DomainExit(at=self._clock.now(), pid=pid))
