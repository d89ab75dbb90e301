"""Snapshot → MachineState: keeps what a machine has besides its disks, and brings it back.

Its disks are kept by another service. This one is asked first: as long as nothing is kept here,
nothing there has moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from edgevirt.host.files import DiskError
from edgevirt.host.kvm.machine_state import MachineStates, StateRecord
from edgevirt.model.base import Trouble
from edgevirt.model.ids import AppId, SnapshotId
from edgevirt.model.kinds import AGENT_STATUS, MACHINE_STATE, SNAPSHOT
from edgevirt.model.snapshot import MachineState, Snapshot
from edgevirt.node.troubles import worsen
from edgevirt.runtime import Inputs, Kind, Refuse, Report, Retry

RETRY = 10.0
"""Seconds after which a return that failed is tried again."""


class StateReconciler:
    name = "machine states"
    spec: Kind[Any] = SNAPSHOT
    status: Kind[Any] = MACHINE_STATE
    reads: tuple[Kind[Any], ...] = (AGENT_STATUS,)
    recheck: float | None = None

    def __init__(self, states: MachineStates) -> None:
        self._states = states

    async def existing(self) -> Iterable[str]:
        await asyncio.to_thread(self._states.begin)
        return await asyncio.to_thread(self._states.records)

    async def reconcile(
        self, key: str, spec: Snapshot | None, inputs: Inputs, report: Report[MachineState]
    ) -> MachineState | None:
        record = self._states.record(key)
        if spec is None or not spec.machine:
            return await self._let_go(key, record, inputs)
        if record is not None and record.begun != spec.begun:
            await asyncio.to_thread(self._states.remove, key)
            record = None
        if record is None and spec.take_state:
            record = await self._take(spec, inputs, report)
        if record is None:
            # one from before machines' states were kept: what is there stays as it is
            return MachineState(
                id=spec.id,
                app=spec.app,
                begun=spec.begun,
                restored=spec.restore if spec.taken and spec.commit else 0,
            )
        if spec.commit and spec.restore > record.restored:
            record = await self._restore(spec, record, inputs, report)
        return _told(spec.id, record)

    async def _take(
        self, spec: Snapshot, inputs: Inputs, report: Report[MachineState]
    ) -> StateRecord:
        try:
            return await asyncio.to_thread(self._states.take, spec.id, spec.app, spec.begun)
        except DiskError as failure:
            trouble = Trouble(why=str(failure), since=inputs.now)
            failed = MachineState(id=spec.id, app=spec.app, begun=spec.begun, trouble=trouble)
            await report(failed)
            raise Refuse(trouble.why) from failure

    async def _restore(
        self, spec: Snapshot, record: StateRecord, inputs: Inputs, report: Report[MachineState]
    ) -> StateRecord:
        try:
            return await asyncio.to_thread(self._states.restore, spec.id, record, spec.restore)
        except DiskError as failure:
            before = inputs.get(MACHINE_STATE, spec.id)
            known = before.trouble if before is not None else None
            trouble = worsen(known, str(failure), inputs.now, RETRY)
            await report(_told(spec.id, record, trouble))
            raise Retry(trouble.why, after=RETRY) from failure

    async def _let_go(
        self, key: str, record: StateRecord | None, inputs: Inputs
    ) -> MachineState | None:
        agent = inputs.get(AGENT_STATUS, "node")
        if record is not None and (agent is None or not agent.config_from):
            return _told(SnapshotId(key), record)  # nobody knows yet what is wanted
        await asyncio.to_thread(self._states.remove, key)
        return None


def _told(id: SnapshotId, record: StateRecord, trouble: Trouble | None = None) -> MachineState:
    return MachineState(
        id=id,
        app=AppId(record.app),
        begun=record.begun,
        kept=True,
        restored=record.restored,
        trouble=trouble,
    )
