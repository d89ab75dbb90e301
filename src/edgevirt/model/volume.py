"""Volumes: what an app's root and data are kept on."""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun, SwState, Trouble
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.eci import Attached, Boot, Wants
from edgevirt.model.ids import ContentTreeId, Digest, VolumeId


class VolumeOrigin(enum.IntEnum):
    """`VolumeContentOriginType` of the wire."""

    UNKNOWN = 0
    BLANK = 1
    DOWNLOAD = 2


class Volume(Noun, frozen=True, kw_only=True):
    """Identity is (id, generation). Key: `key`."""

    id: VolumeId
    origin: VolumeOrigin
    generation: int = 0
    content_tree: ContentTreeId | None = None
    content: str = ""
    """What that tree holds by the same config: news of one may come before news of the other."""
    max_size: int = 0
    """Bytes."""
    readonly: bool = False
    clear_text: bool = False
    name: str = ""
    rest: bytes = b""

    @property
    def key(self) -> str:
        return volume_key(self.id, self.generation)


def volume_key(volume: VolumeId, generation: int) -> str:
    """`UUID#generation`, as EVE names volumes."""
    return f"{volume}#{generation}"


class StorageUse(Noun, frozen=True, kw_only=True):
    """Where the disk of apps and their content went, in bytes. Key: `node`. volumes → agent."""

    total: int
    free: int
    reserved: int
    """The node's own part."""
    content: int = 0
    """Images: blobs, and what is unpacked of them."""
    volumes: int = 0
    """Promised, whatever they hold yet."""
    snapshots: int = 0
    left: int = 0
    """What further volumes may be promised."""


class Growth(Noun, frozen=True, kw_only=True):
    """A volume is to have more room than it has."""

    size: int
    """Bytes that it is to have."""
    begun: float
    """Wall clock; another one of the same size is another growth."""


class VolumeStatus(Noun, frozen=True, kw_only=True):
    """Key: as Volume. CREATED_VOLUME when an app may use it."""

    id: VolumeId
    generation: int
    state: SwState
    since: float
    name: str = ""
    format: ContentFormat = ContentFormat.UNKNOWN
    """CONTAINER: `path` is a file with an ext4 file system, or a directory, for `upper` and `work`
    of an overlay over `layers`.
    RAW and the others: `path` is a file with a disk (a blank one holds an ext4 file system).
    UNKNOWN: there is no disk, only what `boot` names."""
    path: str = ""
    boot: Boot | None = None
    """The kernel to start, when the image brings one: the app is a machine."""
    disks: tuple[Attached, ...] = ()
    """Further disks of the image, read-only, in order."""
    wants: Wants = Wants()
    """What the image declares it needs."""
    blobs: tuple[Digest, ...] = ()
    """Content besides the layers that it lies on."""
    layers: tuple[str, ...] = ()
    packed: str = ""
    """Path of a read-only disk that holds the layers, where one is needed and made."""
    image: ImageConfig | None = None
    progress: int = 0
    size: int = 0
    """Bytes that it takes on the disk, in whole MiB."""
    max_size: int = 0
    """Bytes that it has room for."""
    growing: Growth | None = None
    """Its room is promised. It is a running domain's to do; where none has the volume, apps yields
    it (VolumeUse), starts nothing with it, and this service does it."""
    readonly: bool = False
    trouble: Trouble | None = None
