"""Volume → VolumeStatus: makes what an app's root and data are kept on, and removes it.

A volume that was made stays what it is: it needs neither its content tree nor a network to be
there again after a restart. It goes only when a known config no longer names it, no app uses it,
and a while has passed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.model.kinds import (
    AGENT_STATUS,
    BLOB_STATUS,
    CONTENT_TREE,
    CONTENT_TREE_STATUS,
    DOMAIN_STATUS,
    PROPERTY,
    SNAPSHOT_STATUS,
    VOLUME,
    VOLUME_STATUS,
    VOLUME_USE,
)
from edgevirt.model.volume import Volume, VolumeStatus
from edgevirt.node.properties import number
from edgevirt.node.volumes.content_plan import config_is_known
from edgevirt.node.volumes.growth import Grower
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.made import MadeVolumes
from edgevirt.node.volumes.making import Maker
from edgevirt.node.volumes.telling import RETRY, Telling, missing
from edgevirt.runtime import Inputs, Kind, Refuse, Report, Retry

GRACE = 10.0
"""Seconds that a volume stays after the config stopped naming it."""
LOOK = 60.0
"""Seconds between two looks at how much of the disk a volume takes."""
_KEY = re.compile(r"[0-9a-f-]{1,64}#\d{1,10}")


class VolumeReconciler:
    name = "volumes"
    spec: Kind[Any] = VOLUME
    status: Kind[Any] = VOLUME_STATUS
    reads: tuple[Kind[Any], ...] = (
        CONTENT_TREE,
        CONTENT_TREE_STATUS,
        BLOB_STATUS,
        VOLUME_USE,
        SNAPSHOT_STATUS,
        DOMAIN_STATUS,
        PROPERTY,
        AGENT_STATUS,
    )
    keys_too: tuple[Kind[Any], ...] = (VOLUME_USE,)
    """A rollback brings volumes back that no config names."""
    recheck: float | None = LOOK

    def __init__(
        self, files: VolumeFiles, packed: PackedLayers, ledger: Ledger, blobs: Path, layers: Path
    ) -> None:
        self._files = files
        self._made = MadeVolumes(files, packed, ledger, blobs, layers)
        self._maker = Maker(files, ledger)
        self._ledger = ledger
        self._grower = Grower(files, ledger)
        self._wanted: set[str] = set()
        self._unwanted: dict[str, float] = {}

    async def existing(self) -> Iterable[str]:
        records = await asyncio.to_thread(self._files.records)
        for key, record in records.items():
            self._made.promise(key, record)
        return records

    async def reconcile(
        self, key: str, spec: Volume | None, inputs: Inputs, report: Report[VolumeStatus]
    ) -> VolumeStatus | None:
        if not _KEY.fullmatch(key):
            raise Refuse(f"cannot make a volume {key!r}: no UUID#generation")
        record = self._files.record(key)
        if spec is None:
            return await self._let_go(key, record, inputs, report)
        self._wanted.add(key)
        self._unwanted.pop(key, None)
        if record is not None:
            status = await self._grow(key, spec, record, inputs, report)
            return await self._made.pack(key, status, inputs, report)
        made = await self._maker.make(Telling(key, spec, inputs, report))
        if isinstance(made, VolumeRecord):
            made = self._made.status(key, spec, made, inputs)
        return await self._made.pack(key, made, inputs, report)

    async def _grow(
        self,
        key: str,
        spec: Volume,
        record: VolumeRecord,
        inputs: Inputs,
        report: Report[VolumeStatus],
    ) -> VolumeStatus:
        """Of one that is made: whether apps can use it does not hang on that."""
        grown = await self._grower.settle(key, spec, record, inputs)
        status = self._made.status(key, spec, grown.record, inputs)
        status = msgspec.structs.replace(
            status, growing=grown.growing, trouble=status.trouble or grown.trouble
        )
        if grown.failed and grown.trouble is not None:
            await report(status)
            raise Retry(grown.trouble.why, after=RETRY)
        return status

    # -- letting go --

    async def _let_go(
        self,
        key: str,
        record: VolumeRecord | None,
        inputs: Inputs,
        report: Report[VolumeStatus],
    ) -> VolumeStatus | None:
        use = inputs.get(VOLUME_USE, key)
        is_used = use is not None and bool(use.apps)
        if record is None and is_used:
            self._ledger.drop(key)
            return missing(key, inputs)
        if record is not None:
            kept = self._made.status(key, None, record, inputs)
            if not config_is_known(inputs) or is_used:
                self._unwanted.pop(key, None)
                return await self._made.pack(key, kept, inputs, report) if is_used else kept
            known = key in self._wanted  # in this run: else it waits for late news of it
            grace = GRACE if known else float(number(inputs, "timer.gc.vdisk"))
            left = self._unwanted.setdefault(key, inputs.monotonic) + grace - inputs.monotonic
            if left > 0:
                await report(kept)
                raise Retry("no longer in the config; it goes", after=left)
        await asyncio.to_thread(self._files.remove, key)
        await self._made.forget(key, inputs)
        self._unwanted.pop(key, None)
        self._wanted.discard(key)
        return None
