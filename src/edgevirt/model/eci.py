"""Edge Container Images: what their blobs are, and what they declare of the machine they want.

An Edge Container Image (ECI) is an OCI artifact: a disk, a kernel with an initrd, or the layers of
a root file system. The names of roles are those of lf-edge/edge-containers.
"""

from __future__ import annotations

import enum

from edgevirt.model.base import Noun
from edgevirt.model.ids import Digest


class ContentFormat(enum.IntEnum):
    """`Format` of the wire."""

    UNKNOWN = 0
    RAW = 1
    QCOW = 2
    QCOW2 = 3
    VHD = 4
    VMDK = 5
    OVA = 6
    VHDX = 7
    CONTAINER = 8
    ISO = 9


class PartKind(enum.StrEnum):
    KERNEL = "kernel"
    INITRD = "initrd"
    ROOT = "disk-root"
    """The disk that boots."""
    DISK = "disk-additional"
    PIECE = "disk-piece"
    """A stretch of a raw root disk that is made of several layers."""


class Part(Noun, frozen=True, kw_only=True):
    """What a blob of an ECI is. `disk`: number of an additional one. `offset`: a piece's, in bytes.

    `file`: absolute path within the blob, where that is a layer of files; empty: the blob itself.
    """

    kind: PartKind
    format: ContentFormat = ContentFormat.UNKNOWN
    """Of a disk; UNKNOWN: the image doesn't say."""
    disk: int = 0
    offset: int = 0
    file: str = ""


class Wants(Noun, frozen=True, kw_only=True):
    """What an image says it needs to run. An app gives it that, or more, or it is refused."""

    cpus: int = 0
    memory: int = 0
    """Bytes."""
    virtualization: str = ""
    """`PV`, `HVM`, `FML`, `Legacy` or `None`; empty: any."""
    devices: tuple[str, ...] = ()
    """`KIND` or `KIND:NAME`, such as `serial`, `usb:camera`."""


class Declared(Noun, frozen=True, kw_only=True):
    """What a manifest says besides its blobs."""

    cmdline: str = ""
    """Of the kernel."""
    disk_size: int = 0
    """Bytes of a root disk that is made of pieces; 0: up to the last one's end."""
    wants: Wants = Wants()


class TreePart(Noun, frozen=True, kw_only=True):
    """A part, settled: where its blob is. `path`: of the verified file, once it is there."""

    part: Part
    digest: Digest
    path: str = ""


class Boot(Noun, frozen=True, kw_only=True):
    """What a machine starts without a firmware's help. Paths of verified files, for reading."""

    kernel: str
    initrd: str = ""
    cmdline: str = ""


class Attached(Noun, frozen=True, kw_only=True):
    """A further disk of an image: a verified file, never written to."""

    path: str
    format: ContentFormat
    digest: Digest | None = None
