"""The vault as other services see it: opened at the start, or with the controller's word."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from edgevirt.model import kinds
from edgevirt.model.baseos import SlotState
from edgevirt.model.trust import EscrowKey, VaultStatus
from edgevirt.node.service import Context
from edgevirt.node.troubles import worsen
from edgevirt.node.trust.vault import Keeper, Outcome
from edgevirt.node.trust.worker import Worker
from edgevirt.runtime import Put
from edgevirt.runtime.store import release

KEY: Final = "vault"
RETRY: Final = 60.0
"""Seconds, when the security module or the disk failed."""


class VaultReport:
    def __init__(self, context: Context, keeper: Keeper, worker: Worker) -> None:
        self._context = context
        self._store = context.store
        self._keeper = keeper
        self._worker = worker
        self._status: VaultStatus | None = None

    async def run(self) -> None:
        """Never returns."""
        await self._tell(await self._worker.run(self._keeper.open))
        await release(self._store, (kinds.VAULT_STATUS, kinds.ESCROW_KEY))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._try_again())
            group.create_task(self._follow_slots())

    async def _listen(self) -> None:
        async for event in self._store.watch(kinds.CONTROLLER_VAULT_KEY):
            if isinstance(event, Put):
                word = event.resource.value
                await self._tell(await self._worker.run(partial(self._keeper.hear, word)))

    async def _try_again(self) -> None:
        while True:
            await self._context.clock.sleep(RETRY)
            if self._keeper.outcome.again:
                await self._tell(await self._worker.run(self._keeper.open))

    async def _follow_slots(self) -> None:
        """An update that is kept: the running slot is the active one."""
        async for event in self._store.watch(kinds.SLOT):
            if isinstance(event, Put):
                slot = event.resource.value
                if slot.current and slot.state is SlotState.ACTIVE:
                    await self._worker.run(self._keeper.settle)

    async def _tell(self, outcome: Outcome) -> None:
        blob = await self._worker.run(self._keeper.escrow)
        if blob:
            await self._store.put(kinds.ESCROW_KEY, KEY, EscrowKey(blob=blob))
        status = self._as_status(outcome)
        if status != self._status:
            self._status = status
            await self._store.put(kinds.VAULT_STATUS, KEY, status)

    def _as_status(self, outcome: Outcome) -> VaultStatus:
        now = self._context.clock.now()
        before = self._status
        same = before is not None and before.state is outcome.state
        trouble = None
        if outcome.why:
            known = before.trouble if before is not None else None
            if known is not None and known.why == outcome.why and not outcome.again:
                trouble = known
            else:
                trouble = worsen(known, outcome.why, now, RETRY if outcome.again else None)
        return VaultStatus(
            state=outcome.state,
            since=before.since if before is not None and same else now,
            method=outcome.method,
            sealed=outcome.sealed,
            mismatching=outcome.mismatching,
            trouble=trouble,
        )
