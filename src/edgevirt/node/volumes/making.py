"""A volume is made: blank, or of a content tree that is there, when the disk has room for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from edgevirt.host.files import DiskError
from edgevirt.host.volumes.convert import virtual_size
from edgevirt.host.volumes.files import VolumeFiles, VolumeRecord
from edgevirt.host.volumes.image import BadDiskImage, read_disk_image
from edgevirt.model.base import SwState
from edgevirt.model.content import ContentFormat, ContentTreeStatus
from edgevirt.model.eci import PartKind
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import CONTENT_TREE, CONTENT_TREE_STATUS
from edgevirt.model.volume import VolumeOrigin, VolumeStatus
from edgevirt.node.properties import flag
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.space import writable_size
from edgevirt.node.volumes.telling import Telling

_KEPT = frozenset({PartKind.KERNEL, PartKind.INITRD, PartKind.DISK})
"""Parts that a volume leaves where they are, in the content store."""

_AS_THEY_ARE = frozenset({ContentFormat.RAW, ContentFormat.ISO})
"""Formats whose content is the disk, so that nothing in them can name a file."""

_ATTACHED = frozenset({*_AS_THEY_ARE, ContentFormat.QCOW2})


class Maker:
    def __init__(self, files: VolumeFiles, ledger: Ledger) -> None:
        self._files = files
        self._ledger = ledger

    async def make(self, telling: Telling) -> VolumeRecord | VolumeStatus:
        """A status: it waits for its content. Raises Refuse, Retry."""
        spec = telling.spec
        if spec.origin == VolumeOrigin.BLANK:
            record = VolumeRecord(
                format=ContentFormat.RAW,
                size=spec.max_size,
                asked=spec.max_size,
                name=spec.name,
                readonly=spec.readonly,
            )
            return await self._make_of(telling, record, None)
        if spec.origin != VolumeOrigin.DOWNLOAD or spec.content_tree is None:
            await telling.fail("it comes from nowhere")
        return await self._from_tree(telling)

    async def _from_tree(self, telling: Telling) -> VolumeRecord | VolumeStatus:
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
        return await self._make_of(telling, record, tree)

    async def _check_disks(self, telling: Telling, tree: ContentTreeStatus) -> None:
        """The further ones of an image are not converted: the app's hypervisor reads them."""
        for one in tree.parts:
            if one.part.kind != PartKind.DISK:
                continue
            if one.part.format not in _ATTACHED:
                why = f"its disk {one.part.disk} is a {one.part.format.name}"
                await telling.fail(f"{why}; further disks are RAW, ISO or QCOW2")
            await self._disk_size(telling, Path(one.path), one.part.format)

    async def _disk_size(self, telling: Telling, path: Path, format: ContentFormat) -> int:
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

    async def _make_of(
        self, telling: Telling, record: VolumeRecord, tree: ContentTreeStatus | None
    ) -> VolumeRecord:
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
        return record

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
        self, telling: Telling, needed: int, left: int, tree: ContentTreeStatus | None
    ) -> None:
        """Nothing awaits between looking and promising: volumes are made side by side."""
        key, inputs = telling.key, telling.inputs
        if needed > left and not flag(inputs, "storage.apps.ignore.disk.check"):
            why = self._ledger.shortage("volume", needed, left, inputs)
            waiting = SwState.INITIAL if tree is None else SwState.LOADED
            await telling.retry(waiting, f"cannot make volume {telling.name}: {why}")
        self._ledger.promise(key, needed, lambda: self._files.taken(key))
