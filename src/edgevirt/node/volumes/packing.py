"""Disks of images' layers, for containers in virtual machines: when they are made, and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from edgevirt.host.content.packed import PackedLayers
from edgevirt.host.files import DiskError
from edgevirt.model.base import SwState
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_STATUS, VOLUME_STATUS, VOLUME_USE
from edgevirt.model.volume import VolumeStatus
from edgevirt.node.troubles import worsen
from edgevirt.node.volumes.space import Promise
from edgevirt.runtime import Inputs, Report, Retry

RETRY = 10.0
"""Seconds after which a disk that had no room, or failed, is tried again."""


class Packing:
    """The reader declares BLOB_STATUS, VOLUME_STATUS and VOLUME_USE."""

    def __init__(self, packed: PackedLayers) -> None:
        self._packed = packed
        self._lent: dict[str, Sequence[str]] = {}
        """By volume: what was told of lies there until something else is told."""

    def promise(self) -> Promise:
        """What they take of the disk."""
        size = self._packed.size()
        return Promise(size, size)

    def place(self, volume: str, layers: Sequence[str], inputs: Inputs) -> str:
        """Path of the disk that a volume's app needs; empty: it needs none, or it is not there."""
        self.forget(volume)
        if not layers or not is_to_be_packed(volume, inputs):
            return ""
        path = self._packed.path(layers)
        if not path.exists():
            return ""
        self._lent[volume] = layers
        return str(path)

    def forget(self, volume: str) -> None:
        """Nothing is told of it any more."""
        self._lent.pop(volume, None)

    async def settle(
        self,
        volume: str,
        status: VolumeStatus,
        left: int,
        inputs: Inputs,
        report: Report[VolumeStatus],
    ) -> VolumeStatus:
        """Makes the disk that a volume's app still lacks. `left`: bytes that it may take. May raise
        Retry, with the trouble told.
        """
        if not status.layers or status.packed or status.state != SwState.CREATED_VOLUME:
            return status
        await report(status)
        needed = _unpacked(status.layers, inputs)
        try:
            if needed > left:
                raise DiskError(f"Remaining disk space {left} its image as a disk needs {needed}")
            self._lent[volume] = status.layers
            path = await self._packed.make(status.layers)
        except DiskError as failure:
            why = f"cannot use volume {status.name or volume} in a virtual machine: {failure}"
            before = inputs.get(VOLUME_STATUS, volume)
            trouble = worsen(None if before is None else before.trouble, why, inputs.now, RETRY)
            await report(replace(status, trouble=trouble))
            raise Retry(why, after=RETRY) from failure
        return replace(status, packed=str(path))

    def sweep(self, layers: Mapping[str, Sequence[str]], inputs: Inputs) -> None:
        """Removes what no volume's app needs any more. `layers`: of each volume. Blocks."""
        wanted = [found for volume, found in layers.items() if is_to_be_packed(volume, inputs)]
        self._packed.keep([*wanted, *list(self._lent.values())])


def is_to_be_packed(volume: str, inputs: Inputs) -> bool:
    use = inputs.get(VOLUME_USE, volume)
    return use is not None and use.packed


def _unpacked(layers: Sequence[str], inputs: Inputs) -> int:
    """Bytes of what is in them: more than the disk takes."""
    blobs = [inputs.get(BLOB_STATUS, Digest(f"sha256:{Path(layer).name}")) for layer in layers]
    return sum(blob.unpacked for blob in blobs if blob is not None)
