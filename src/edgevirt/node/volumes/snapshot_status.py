"""Snapshot → SnapshotStatus: keeps volumes as they are, brings them back, and lets go of both.

Room is promised while the app still runs. What goes wrong afterwards leaves every volume where it
was. A deletion that fails is told and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec import structs

from edgevirt.host.files import DiskError
from edgevirt.host.volumes.files import VolumeFiles
from edgevirt.host.volumes.snapshot import SnapshotFiles, SnapshotRecord
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.ids import AppId, Digest, SnapshotId
from edgevirt.model.kinds import AGENT_STATUS, BLOB_STATUS, PROPERTY, SNAPSHOT, SNAPSHOT_STATUS
from edgevirt.model.snapshot import Snapshot, SnapshotStatus
from edgevirt.node.properties import flag
from edgevirt.node.troubles import worsen
from edgevirt.node.volumes.content_plan import config_is_known
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.runtime import Inputs, Kind, Refuse, Report, Retry

RETRY = 10.0
"""Seconds after which what had no room, or failed, is tried again."""


class SnapshotReconciler:
    name = "snapshots"
    spec: Kind[Any] = SNAPSHOT
    status: Kind[Any] = SNAPSHOT_STATUS
    reads: tuple[Kind[Any], ...] = (BLOB_STATUS, PROPERTY, AGENT_STATUS)
    recheck: float | None = None

    def __init__(self, files: SnapshotFiles, volumes: VolumeFiles, ledger: Ledger) -> None:
        self._files = files
        self._volumes = volumes
        self._ledger = ledger

    async def existing(self) -> Iterable[str]:
        records = await asyncio.to_thread(self._files.records)
        for id in records:
            self._promise_taken(id)
        return records

    async def reconcile(
        self, key: str, spec: Snapshot | None, inputs: Inputs, report: Report[SnapshotStatus]
    ) -> SnapshotStatus | None:
        record = self._files.record(key)
        if spec is None:
            return await self._let_go(key, record, inputs, report)
        if record is not None and record.begun != spec.begun:
            await self._remove(_Telling(spec, inputs, report), record)
            record = None
        telling = _Telling(spec, inputs, report)
        if record is None and spec.taken:
            await telling.fail("cannot find it on the disk any more: it is lost")
        if record is None and not spec.take:
            return await self._look_for_room(telling)
        if record is None:
            record = await self._take(telling)
        record = await self._finish(telling, record)
        self._promise_taken(key)
        if spec.restore <= record.restored:
            await asyncio.to_thread(self._files.withdraw, record)
            self._ledger.drop(_back(key))
            return telling.whole(record, self._files.taken(key))
        return await self._restore(telling, record)

    # -- taking --

    async def _look_for_room(self, telling: _Telling) -> SnapshotStatus:
        needed, left = self._needs(telling.spec), self._ledger.left(telling.key, telling.inputs)
        if not _fits(needed, left, telling.inputs):
            why = self._ledger.shortage("snapshot", needed, left, telling.inputs)
            await telling.retry(telling.status(SwState.INITIAL), f"cannot keep a snapshot: {why}")
        self._ledger.promise(telling.key, needed, lambda: 0)
        return telling.status(SwState.CREATING_VOLUME, size=needed)

    async def _take(self, telling: _Telling) -> SnapshotRecord:
        spec, inputs = telling.spec, telling.inputs
        needed, left = self._needs(spec), self._ledger.left(telling.key, inputs)
        if not _fits(needed, left, inputs):  # the app wrote more meanwhile
            why = self._ledger.shortage("snapshot", needed, left, inputs)
            await telling.fail(f"cannot keep a snapshot: {why}")
        self._ledger.promise(telling.key, needed, lambda: self._files.taken(telling.key))
        await telling.report(telling.status(SwState.CREATING_VOLUME, size=needed))
        try:
            async with self._volumes.alone(*spec.copies, *spec.moves):
                return await self._files.take(
                    spec.id, spec.app, spec.begun, spec.copies, spec.moves
                )
        except DiskError as failure:
            if self._files.record(spec.id) is None:
                self._ledger.drop(telling.key)
                await telling.fail(str(failure))
            await telling.retry(telling.status(SwState.CREATING_VOLUME), str(failure))
        raise AssertionError("unreachable: both raise")

    async def _finish(self, telling: _Telling, record: SnapshotRecord) -> SnapshotRecord:
        if not record.finished:
            try:
                async with self._volumes.alone(*record.moves):
                    record = await asyncio.to_thread(self._files.finish, telling.key, record)
            except DiskError as failure:
                await telling.retry(telling.status(SwState.CREATING_VOLUME), str(failure))
        for volume in record.moves:
            if self._volumes.record(volume) is None:
                self._ledger.drop(volume)
        return record

    def _needs(self, spec: Snapshot) -> int:
        """Bytes of the copies; what moves is on the disk already."""
        return sum(self._volumes.taken(key) for key in spec.copies)

    def _promise_taken(self, id: str) -> None:
        """It never grows."""
        self._ledger.promise(id, self._files.taken(id), lambda: self._files.taken(id))

    # -- going back --

    async def _restore(self, telling: _Telling, record: SnapshotRecord) -> SnapshotStatus:
        key, spec = telling.key, telling.spec
        whole = telling.whole(record, self._files.taken(key))
        try:
            if not self._files.is_prepared(record):
                needed, left = whole.size, self._ledger.left(_back(key), telling.inputs)
                if not _fits(needed, left, telling.inputs):
                    why = self._ledger.shortage("rollback", needed, left, telling.inputs)
                    await telling.retry(whole, f"cannot roll back to it: {why}")
                self._ledger.promise(_back(key), needed, lambda: 0)
                await self._files.prepare(key, record)
            if spec.commit:
                async with self._volumes.alone(*record.volumes):
                    record = await asyncio.to_thread(self._files.restore, key, record, spec.restore)
                self._ledger.drop(_back(key))
                return telling.whole(record, whole.size)
        except DiskError as failure:
            await telling.retry(whole, str(failure))
        return telling.whole(record, whole.size, prepared=spec.restore)

    # -- letting go --

    async def _let_go(
        self,
        key: str,
        record: SnapshotRecord | None,
        inputs: Inputs,
        report: Report[SnapshotStatus],
    ) -> SnapshotStatus | None:
        begun = record.begun if record is not None else 0.0
        app = AppId(record.app if record is not None else "")
        telling = _Telling(Snapshot(id=SnapshotId(key), app=app, begun=begun), inputs, report)
        if record is not None and not config_is_known(inputs):
            return telling.whole(record, self._files.taken(key))
        await self._remove(telling, record)
        return None

    async def _remove(self, telling: _Telling, record: SnapshotRecord | None) -> None:
        try:
            if record is not None:
                await asyncio.to_thread(self._files.withdraw, record)
            await asyncio.to_thread(self._files.remove, telling.key)
        except (DiskError, OSError) as failure:
            before = telling.status(SwState.CREATED_VOLUME, size=self._files.taken(telling.key))
            await telling.retry(before, str(failure))
        self._ledger.drop(telling.key)
        self._ledger.drop(_back(telling.key))


class _Telling:
    """One snapshot, and what is told about it."""

    def __init__(self, spec: Snapshot, inputs: Inputs, report: Report[SnapshotStatus]) -> None:
        self.spec = spec
        self.key = spec.id
        self.inputs = inputs
        self.report = report
        self._before = inputs.get(SNAPSHOT_STATUS, spec.id)

    def status(self, state: SwState, *, size: int = 0) -> SnapshotStatus:
        spec = self.spec
        return SnapshotStatus(id=spec.id, app=spec.app, state=state, begun=spec.begun, size=size)

    def whole(self, record: SnapshotRecord, size: int, *, prepared: int = 0) -> SnapshotStatus:
        return SnapshotStatus(
            id=self.spec.id,
            app=self.spec.app,
            state=SwState.CREATED_VOLUME,
            begun=record.begun,
            size=size,
            blobs=_blobs(record),
            prepared=prepared,
            restored=record.restored,
        )

    async def retry(self, status: SnapshotStatus, why: str) -> None:
        """Always raises Retry."""
        before = self._before.trouble if self._before is not None else None
        trouble = worsen(before, why, self.inputs.now, RETRY)
        await self.report(structs.replace(status, trouble=trouble))
        raise Retry(why, after=RETRY)

    async def fail(self, why: str) -> None:
        """Always raises Refuse."""
        trouble = Trouble(why=why, since=self.inputs.now)
        await self.report(structs.replace(self.status(SwState.FAILED), trouble=trouble))
        raise Refuse(why)


def _fits(needed: int, left: int, inputs: Inputs) -> bool:
    return needed <= left or flag(inputs, "storage.apps.ignore.disk.check")


def _blobs(record: SnapshotRecord) -> tuple[Digest, ...]:
    volumes = record.volumes.values()
    layers = {layer for volume in volumes for layer in volume.layers}
    return tuple(sorted(layers | {one.digest for volume in volumes for one in volume.parts}))


def _back(id: str) -> str:
    """Of the ledger: copies on the way back."""
    return f"{id} back"
