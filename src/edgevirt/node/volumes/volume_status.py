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
from edgevirt.host.files import DiskError
from edgevirt.host.volumes.convert import virtual_size
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.host.volumes.image import BadDiskImage, read_disk_image
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import ContentFormat, ContentTreeStatus
from edgevirt.model.eci import Attached, Boot, PartKind, TreePart
from edgevirt.model.ids import Digest, VolumeId
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
from edgevirt.model.volume import Volume, VolumeOrigin, VolumeStatus
from edgevirt.node.properties import flag, number
from edgevirt.node.troubles import worsen
from edgevirt.node.volumes.content_plan import config_is_known
from edgevirt.node.volumes.growth import Grower
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.packing import Packing, is_to_be_packed
from edgevirt.node.volumes.space import writable_size
from edgevirt.runtime import Inputs, Kind, Refuse, Report, Retry
from edgevirt.wire import oci

GRACE = 10.0
"""Seconds that a volume stays after the config stopped naming it."""
LOOK = 60.0
"""Seconds between two looks at how much of the disk a volume takes."""
RETRY = 10.0
"""Seconds after which a volume that had no room, or failed, is tried again."""

_MIB = 1 << 20

_KEPT = frozenset({PartKind.KERNEL, PartKind.INITRD, PartKind.DISK})
"""Parts that a volume leaves where they are, in the content store."""

_AS_THEY_ARE = frozenset({ContentFormat.RAW, ContentFormat.ISO})
"""Formats whose content is the disk, so that nothing in them can name a file."""

_ATTACHED = frozenset({*_AS_THEY_ARE, ContentFormat.QCOW2})

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
        self._packing = Packing(packed)
        ledger.count(self._packing.promise)
        self._blobs = blobs
        self._layers = layers
        self._ledger = ledger
        self._grower = Grower(files, ledger)
        self._wanted: set[str] = set()
        self._unwanted: dict[str, float] = {}

    async def existing(self) -> Iterable[str]:
        records = await asyncio.to_thread(self._files.records)
        for key, record in records.items():
            self._promise_made(key, record)
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
            return await self._pack(key, status, inputs, report)
        telling = _Telling(key, spec, inputs, report)
        made = await self._make_new(telling)
        return await self._pack(key, made, inputs, report)

    # -- making --

    async def _make_new(self, telling: _Telling) -> VolumeStatus:
        spec = telling.spec
        if spec.origin == VolumeOrigin.BLANK:
            record = VolumeRecord(
                format=ContentFormat.RAW,
                size=spec.max_size,
                asked=spec.max_size,
                name=spec.name,
                readonly=spec.readonly,
            )
            return await self._make(telling, record, None)
        if spec.origin != VolumeOrigin.DOWNLOAD or spec.content_tree is None:
            await telling.fail("it comes from nowhere")
        return await self._from_tree(telling)

    async def _from_tree(self, telling: _Telling) -> VolumeStatus:
        name = telling.spec.content_tree or ""
        tree = telling.inputs.get(CONTENT_TREE_STATUS, name)
        wanted = telling.inputs.get(CONTENT_TREE, name)
        if tree is None or wanted is None or tree.content != wanted.content:
            return telling.status(SwState.INITIAL)
        if telling.spec.content and telling.spec.content != wanted.content:
            return telling.status(SwState.INITIAL)
        if tree.state != SwState.LOADED:
            told = telling.status(tree.state, progress=tree.progress, trouble=tree.trouble)
            return msgspec.structs.replace(told, format=wanted.format)
        size, format = telling.spec.max_size, tree.format
        await self._check_disks(telling, tree)
        if tree.path:
            size = max(size, await self._disk_size(telling, Path(tree.path), format))
            format = format if format in _AS_THEY_ARE else ContentFormat.QCOW2
        elif tree.parts:
            size = max(size, tree.disk_size or tree.size)
        record = VolumeRecord(
            format=format,
            size=size,
            asked=telling.spec.max_size,
            layers=tuple(Digest(f"sha256:{Path(layer).name}") for layer in tree.layers),
            image=tree.image,
            parts=tuple(one for one in tree.parts if one.part.kind in _KEPT),
            declared=tree.declared,
            name=telling.spec.name,
            readonly=telling.spec.readonly,
        )
        return await self._make(telling, record, tree)

    async def _check_disks(self, telling: _Telling, tree: ContentTreeStatus) -> None:
        """The further ones of an image are not converted: the app's hypervisor reads them."""
        for one in tree.parts:
            if one.part.kind != PartKind.DISK:
                continue
            if one.part.format not in _ATTACHED:
                why = f"its disk {one.part.disk} is a {one.part.format.name}"
                await telling.fail(f"{why}; further disks are RAW, ISO or QCOW2")
            await self._disk_size(telling, Path(one.path), one.part.format)

    async def _disk_size(self, telling: _Telling, path: Path, format: ContentFormat) -> int:
        """Bytes of a disk, as an app will see it."""
        try:
            facts = await asyncio.to_thread(read_disk_image, path, format)
            if format in _AS_THEY_ARE:
                return facts.virtual_size
            return max(facts.virtual_size, await virtual_size(path, format))
        except BadDiskImage as failure:
            await telling.fail(f"its disk image is refused: {failure}")
        except (DiskError, OSError) as failure:
            await telling.retry(SwState.LOADED, f"{failure}")
        raise AssertionError("unreachable: both raise")

    async def _make(
        self, telling: _Telling, record: VolumeRecord, tree: ContentTreeStatus | None
    ) -> VolumeStatus:
        key, inputs = telling.key, telling.inputs
        if tree is None and record.size <= 0:
            await telling.fail("a blank volume needs a size")
        left = self._ledger.left(key, inputs)
        if record.format == ContentFormat.CONTAINER:
            record = msgspec.structs.replace(record, size=writable_size(record.size, left))
        await self._promise(telling, record.size, left, tree)
        await telling.report(telling.status(SwState.CREATING_VOLUME, progress=100))
        try:
            if tree is None:
                await self._files.make_blank(key, record)
            else:
                await self._make_from(key, record, tree)
        except BadDiskImage as bad:
            self._ledger.drop(key)
            await telling.fail(f"its disk image is refused: {bad}")
        except DiskError as failure:
            self._ledger.drop(key)
            await telling.retry(SwState.CREATING_VOLUME, f"{failure}")
        return self._made(key, telling.spec, record, inputs)

    async def _make_from(self, key: str, record: VolumeRecord, tree: ContentTreeStatus) -> None:
        pieces = [one for one in tree.parts if one.part.kind == PartKind.PIECE]
        if record.format == ContentFormat.CONTAINER:
            await self._files.make_blank(key, record)
        elif pieces:
            placed = [(one.part.offset, Path(one.path)) for one in pieces]
            await asyncio.to_thread(self._files.make_pieces, key, record, placed)
        elif tree.path and tree.format not in _AS_THEY_ARE:
            await self._files.make_converted(key, record, Path(tree.path), tree.format)
        elif tree.path:
            await self._files.make_copy(key, record, Path(tree.path))
        else:
            await asyncio.to_thread(self._files.make_nothing, key, record)

    async def _promise(
        self, telling: _Telling, needed: int, left: int, tree: ContentTreeStatus | None
    ) -> None:
        """Nothing awaits between looking and promising: volumes are made side by side."""
        key, inputs = telling.key, telling.inputs
        if needed > left and not flag(inputs, "storage.apps.ignore.disk.check"):
            why = self._ledger.shortage("volume", needed, left, inputs)
            waiting = SwState.INITIAL if tree is None else SwState.LOADED
            await telling.retry(waiting, f"cannot make volume {telling.name}: {why}")
        self._ledger.promise(key, needed, lambda: self._files.taken(key))

    def _promise_made(self, key: str, record: VolumeRecord) -> None:
        if key not in self._ledger:
            self._ledger.promise(key, record.size, lambda: self._files.taken(key))

    def _made(
        self, key: str, spec: Volume | None, record: VolumeRecord, inputs: Inputs
    ) -> VolumeStatus:
        """What an app may use, as soon as the layers below it are there."""
        self._promise_made(key, record)
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

    async def _pack(
        self, key: str, status: VolumeStatus, inputs: Inputs, report: Report[VolumeStatus]
    ) -> VolumeStatus:
        if status.layers and not is_to_be_packed(key, inputs):
            await asyncio.to_thread(self._sweep, inputs)
            return status
        left = self._ledger.left("", inputs)
        return await self._packing.settle(key, status, left, inputs, report)

    def _sweep(self, inputs: Inputs) -> None:
        records = self._files.records()
        layers = {key: self._layers_of(record) for key, record in records.items()}
        self._packing.sweep(layers, inputs)

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
        status = self._made(key, spec, grown.record, inputs)
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
            return _missing(key, inputs)
        if record is not None:
            kept = self._made(key, None, record, inputs)
            if not config_is_known(inputs) or is_used:
                self._unwanted.pop(key, None)
                return await self._pack(key, kept, inputs, report) if is_used else kept
            known = key in self._wanted  # in this run: else it waits for late news of it
            grace = GRACE if known else float(number(inputs, "timer.gc.vdisk"))
            left = self._unwanted.setdefault(key, inputs.monotonic) + grace - inputs.monotonic
            if left > 0:
                await report(kept)
                raise Retry("no longer in the config; it goes", after=left)
        await asyncio.to_thread(self._files.remove, key)
        self._packing.forget(key)
        await asyncio.to_thread(self._sweep, inputs)
        self._ledger.drop(key)
        self._unwanted.pop(key, None)
        self._wanted.discard(key)
        return None


def _missing(key: str, inputs: Inputs) -> VolumeStatus:
    """Of one that an app is to use and that only a snapshot has."""
    volume, _, generation = key.partition("#")
    before = inputs.get(VOLUME_STATUS, key)
    same = before is not None and before.state == SwState.INITIAL
    since = before.since if before is not None and same else inputs.now
    return VolumeStatus(
        id=VolumeId(volume), generation=int(generation), state=SwState.INITIAL, since=since
    )


class _Telling:
    """One volume that is not made yet, and what is told about it."""

    def __init__(
        self, key: str, spec: Volume, inputs: Inputs, report: Report[VolumeStatus]
    ) -> None:
        self.key = key
        self.spec = spec
        self.inputs = inputs
        self.report = report
        self.name = spec.name or key
        self._before = inputs.get(VOLUME_STATUS, key)

    def status(
        self, state: SwState, progress: int = 0, trouble: Trouble | None = None
    ) -> VolumeStatus:
        before, spec = self._before, self.spec
        same = before is not None and before.state == state
        return VolumeStatus(
            id=spec.id,
            generation=spec.generation,
            state=state,
            since=before.since if before is not None and same else self.inputs.now,
            name=spec.name,
            progress=progress,
            max_size=spec.max_size,
            readonly=spec.readonly,
            trouble=trouble,
        )

    async def retry(self, state: SwState, why: str) -> None:
        """Always raises Retry."""
        before = self._before.trouble if self._before is not None else None
        trouble = worsen(before, why, self.inputs.now, RETRY)
        await self.report(self.status(state, trouble=trouble))
        raise Retry(why, after=RETRY)

    async def fail(self, why: str) -> None:
        """Always raises Refuse."""
        why = f"cannot make volume {self.name}: {why}"
        trouble = Trouble(why=why, since=self.inputs.now)
        await self.report(self.status(SwState.FAILED, trouble=trouble))
        raise Refuse(why)
