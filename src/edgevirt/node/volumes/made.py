"""A volume that is made: what apps may use of it, and where its parts are."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat
from edgevirt.model.eci import Attached, Boot, PartKind, TreePart
from edgevirt.model.ids import VolumeId
from edgevirt.model.kinds import BLOB_STATUS, VOLUME_STATUS
from edgevirt.model.volume import Volume, VolumeStatus
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.packing import Packing, is_to_be_packed
from edgevirt.runtime import Inputs, Report
from edgevirt.wire import oci

_MIB = 1 << 20


class MadeVolumes:
    """`blobs`, `layers`: directories of the content store. By key of the volume."""

    def __init__(
        self, files: VolumeFiles, packed: PackedLayers, ledger: Ledger, blobs: Path, layers: Path
    ) -> None:
        self._files = files
        self._packing = Packing(packed)
        ledger.count(self._packing.promise)
        self._ledger = ledger
        self._blobs = blobs
        self._layers = layers

    def promise(self, key: str, record: VolumeRecord) -> None:
        if key not in self._ledger:
            self._ledger.promise(key, record.size, lambda: self._files.taken(key))

    def status(
        self, key: str, spec: Volume | None, record: VolumeRecord, inputs: Inputs
    ) -> VolumeStatus:
        """What an app may use, as soon as the layers below it are there."""
        self.promise(key, record)
        parts = tuple(one.digest for one in record.parts)
        statuses = [inputs.get(BLOB_STATUS, blob) for blob in (*record.layers, *parts)]
        there = all(blob is not None and blob.state == SwState.LOADED for blob in statuses)
        troubles = [blob.trouble for blob in statuses if blob is not None and blob.trouble]
        state = SwState.CREATED_VOLUME if there else SwState.LOADING
        before = inputs.get(VOLUME_STATUS, key)
        volume, _, generation = key.partition("#")
        same = before is not None and before.state == state
        return VolumeStatus(
            id=VolumeId(volume),
            generation=int(generation),
            state=state,
            since=before.since if before is not None and same else inputs.now,
            name=spec.name if spec is not None else record.name,
            format=record.format,
            path="" if record.format == ContentFormat.UNKNOWN else str(self._files.path(key)),
            boot=self._boot(record),
            disks=tuple(
                Attached(path=self._place(one), format=one.part.format, digest=one.digest)
                for one in record.parts
                if one.part.kind == PartKind.DISK
            ),
            wants=record.declared.wants,
            blobs=tuple(sorted(set(parts))),
            layers=self._layers_of(record),
            packed=self._packing.place(key, self._layers_of(record), inputs),
            image=record.image,
            progress=100,
            size=-(-self._files.taken(key) // _MIB) * _MIB,
            max_size=record.size,
            readonly=spec.readonly if spec is not None else record.readonly,
            trouble=troubles[0] if troubles else None,
        )

    def _layers_of(self, record: VolumeRecord) -> tuple[str, ...]:
        return tuple(str(self._layers / oci.hex_of(layer)) for layer in record.layers)

    def _boot(self, record: VolumeRecord) -> Boot | None:
        places = {one.part.kind: self._place(one) for one in record.parts}
        if PartKind.KERNEL not in places:
            return None
        return Boot(
            kernel=places[PartKind.KERNEL],
            initrd=places.get(PartKind.INITRD, ""),
            cmdline=record.declared.cmdline,
        )

    def _place(self, one: TreePart) -> str:
        """Where a part is now: the node's directory may be another than when it was recorded."""
        name = oci.hex_of(one.digest)
        if not one.part.file:
            return str(self._blobs / name)
        return f"{self._layers / name}{one.part.file}"

    async def pack(
        self, key: str, status: VolumeStatus, inputs: Inputs, report: Report[VolumeStatus]
    ) -> VolumeStatus:
        if status.layers and not is_to_be_packed(key, inputs):
            await asyncio.to_thread(self.sweep, inputs)
            return status
        left = self._ledger.left("", inputs)
        return await self._packing.settle(key, status, left, inputs, report)

    def sweep(self, inputs: Inputs) -> None:
        records = self._files.records()
        layers = {key: self._layers_of(record) for key, record in records.items()}
        self._packing.sweep(layers, inputs)

    async def forget(self, key: str, inputs: Inputs) -> None:
        """It is gone: what was packed for it goes, and its room is free."""
        self._packing.forget(key)
        await asyncio.to_thread(self.sweep, inputs)
        self._ledger.drop(key)
