"""Edge Container Images as OCI artifacts: annotations and media types ⇄ parts. Hostile input.

Names under `org.lfedge.eci` and `vnd.lfedge` are those of lf-edge/edge-containers (its
docs/annotations.md, mediatypes.md and filenames.md), so that its images run here and ours there;
those under `io.edgevirt` are our own; docs/how-to/package-an-app.md lists them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import structs

from edgevirt.model.eci import ContentFormat, Declared, Part, PartKind, Wants
from edgevirt.wire.errors import BadDocument

MEDIA_TYPE: Final = "org.lfedge.eci.mediaType"
ROLE: Final = "org.lfedge.eci.role"
TITLE: Final = "org.opencontainers.image.title"
LABELS: Final = "org.lfedge.eci.artifact."
"""Begin of the labels that tell where in a container's files the parts are."""

KERNEL: Final = "application/vnd.lfedge.eci.kernel.layer.v1+kernel"
INITRD: Final = "application/vnd.lfedge.eci.initrd.layer.v1+cpio"
DISK: Final = "application/vnd.lfedge.disk.layer.v1+"
"""Before the name of a disk's format."""
OTHER: Final = "application/vnd.lfedge.eci.layer.v1"
PIECE: Final = "application/vnd.edgevirt.disk.piece.v1+raw"
"""Not one of a disk's media types: who doesn't know pieces must not boot one of them alone."""
PIECE_ROLE: Final = "disk-piece"

OFFSET: Final = "io.edgevirt.eci.offset"
DISK_SIZE: Final = "io.edgevirt.eci.disk-size"
CMDLINE: Final = "io.edgevirt.eci.cmdline"
CPUS: Final = "io.edgevirt.eci.cpus"
MEMORY: Final = "io.edgevirt.eci.memory"
VIRTUALIZATION: Final = "io.edgevirt.eci.virtualization"
DEVICES: Final = "io.edgevirt.eci.devices"

FORMATS: Final[Mapping[str, ContentFormat]] = {
    "raw": ContentFormat.RAW,
    "qcow": ContentFormat.QCOW,
    "qcow2": ContentFormat.QCOW2,
    "vhd": ContentFormat.VHD,
    "vmdk": ContentFormat.VMDK,
    "ova": ContentFormat.OVA,
    "vhdx": ContentFormat.VHDX,
    "iso": ContentFormat.ISO,
}
TARS: Final = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)
"""Media types of layers of files."""
MAX_DISKS: Final = 16
MAX_CMDLINE: Final = 2047
"""Characters that a kernel takes."""
MAX_DISK: Final = 1 << 50
VIRTUALIZATIONS: Final = ("None", "PV", "HVM", "FML", "Legacy")

_NUMBER = re.compile(r"\d{1,16}", re.ASCII)
_DEVICE = re.compile(r"[a-z][a-z0-9-]{0,31}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?", re.ASCII)
_LABEL = re.compile(r"kernel|initrd|root|disk-\d{1,3}", re.ASCII)
_LABEL_KINDS = {
    "kernel": PartKind.KERNEL,
    "initrd": PartKind.INITRD,
    "root": PartKind.ROOT,
}


def part_of(media_type: str, annotations: Mapping[str, str]) -> Part | None:
    """What a layer of a manifest is; None: no part of an ECI. Additional disks aren't numbered
    yet. Raises BadDocument.
    """
    own = annotations.get(MEDIA_TYPE) or media_type
    kind = _kind(own, annotations.get(ROLE, ""))
    if kind is None:
        return None
    if kind == PartKind.PIECE:
        offset = _whole(OFFSET, annotations.get(OFFSET, ""), most=MAX_DISK)
        return Part(kind=kind, format=ContentFormat.RAW, offset=offset)
    format = ContentFormat.UNKNOWN
    if kind in {PartKind.ROOT, PartKind.DISK}:
        format = FORMATS.get(own.removeprefix(DISK), ContentFormat.UNKNOWN)
    file = ""
    if media_type in TARS:
        default = kind.value if kind in {PartKind.KERNEL, PartKind.INITRD} else ""
        file = file_in_layer(annotations.get(TITLE) or default)
    return Part(kind=kind, format=format, file=file)


def _kind(own: str, role: str) -> PartKind | None:
    if own == PIECE or role == PIECE_ROLE:
        if (own, role) != (PIECE, PIECE_ROLE):
            raise BadDocument(f"cannot use a manifest: a piece of a disk of type {own[:80]!r}")
        return PartKind.PIECE
    if role:
        try:
            return PartKind(role)
        except ValueError:
            raise BadDocument(f"cannot use a manifest: a layer with role {role[:40]!r}") from None
    if own.startswith("application/vnd.lfedge.eci.kernel.layer.v1"):
        return PartKind.KERNEL
    if own.startswith("application/vnd.lfedge.eci.initrd.layer.v1"):
        return PartKind.INITRD
    return PartKind.ROOT if own.removeprefix(DISK) in FORMATS and own.startswith(DISK) else None


def file_in_layer(name: str) -> str:
    """An absolute path within a layer of files. Raises BadDocument for one that leads out."""
    parts = name.split("/")
    bad = not name.strip("/") or len(name) > 255 or ".." in parts or "." in parts
    if bad or "\0" in name or not name.isprintable():
        raise BadDocument(f"cannot use an image: {name[:80]!r} is no path of a part")
    return "/" + "/".join(part for part in parts if part)


def check_parts(parts: Sequence[tuple[Part, int]], declared: Declared) -> None:
    """(part, its bytes) of one manifest, in its order. Raises BadDocument."""
    kinds = [part.kind for part, _ in parts]
    for kind in (PartKind.KERNEL, PartKind.INITRD, PartKind.ROOT):
        if kinds.count(kind) > 1:
            raise BadDocument(f"cannot use a manifest: it has {kinds.count(kind)} of {kind}")
    if PartKind.INITRD in kinds and PartKind.KERNEL not in kinds:
        raise BadDocument("cannot use a manifest: it has an initrd, but no kernel")
    if kinds.count(PartKind.DISK) > MAX_DISKS:
        raise BadDocument(f"cannot use a manifest: more than {MAX_DISKS} additional disks")
    pieces = [(part.offset, size) for part, size in parts if part.kind == PartKind.PIECE]
    if pieces and PartKind.ROOT in kinds:
        raise BadDocument("cannot use a manifest: its root disk is a layer and pieces as well")
    if not {PartKind.KERNEL, PartKind.ROOT, PartKind.PIECE} & set(kinds):
        raise BadDocument("cannot use a manifest: nothing in it boots, no kernel and no root disk")
    end = 0
    for offset, size in pieces:
        if offset < end:
            raise BadDocument(
                f"cannot use a manifest: pieces of its disk overlap or are in the wrong order,"
                f" at byte {offset}"
            )
        end = offset + size
    if pieces and ((declared.disk_size and end > declared.disk_size) or end > MAX_DISK):
        raise BadDocument(
            f"cannot use a manifest: its pieces end at byte {end} of a disk of {declared.disk_size}"
        )


def number_disks(parts: Sequence[Part | None]) -> list[Part | None]:
    """Additional disks count in the manifest's order, from 0."""
    numbered: list[Part | None] = []
    count = 0
    for part in parts:
        if part is not None and part.kind == PartKind.DISK:
            part = structs.replace(part, disk=count)
            count += 1
        numbered.append(part)
    return numbered


def parts_of_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(`kernel`, `initrd`, `root` or `disk-N`; path) by the labels of an image config, sorted.
    Raises BadDocument.
    """
    found = []
    for name, value in labels.items():
        what = name.removeprefix(LABELS)
        if name.startswith(LABELS) and _LABEL.fullmatch(what):
            found.append((what, file_in_layer(value)))
    if len(found) > MAX_DISKS + 3:
        raise BadDocument(f"cannot use an image config: it names {len(found)} parts")
    return tuple(sorted(found, key=lambda pair: (len(pair[0]), pair[0])))


def labelled_part(what: str, path: str) -> Part:
    """Of a pair of `parts_of_labels`. What format a disk has, a label doesn't tell."""
    kind = _LABEL_KINDS.get(what, PartKind.DISK)
    number = int(what.removeprefix("disk-")) if kind == PartKind.DISK else 0
    return Part(kind=kind, disk=number, file=path)


def declared_by(annotations: Mapping[str, str]) -> Declared:
    """What a manifest's own annotations say. Raises BadDocument."""
    cmdline = annotations.get(CMDLINE, "")
    if len(cmdline) > MAX_CMDLINE or not cmdline.isprintable():
        raise BadDocument("cannot use a manifest: its kernel command line is too long, or no line")
    virtualization = annotations.get(VIRTUALIZATION, "")
    if virtualization and virtualization not in VIRTUALIZATIONS:
        raise BadDocument(f"cannot use a manifest: virtualization {virtualization[:40]!r}")
    devices = tuple(name for name in annotations.get(DEVICES, "").split(",") if name)
    for device in devices[:100]:
        if not is_device(device):
            raise BadDocument(f"cannot use a manifest: a device {device[:80]!r}")
    return Declared(
        cmdline=cmdline,
        disk_size=_whole(DISK_SIZE, annotations.get(DISK_SIZE, "0"), most=MAX_DISK),
        wants=Wants(
            cpus=_whole(CPUS, annotations.get(CPUS, "0"), most=1024),
            memory=_whole(MEMORY, annotations.get(MEMORY, "0"), most=MAX_DISK),
            virtualization=virtualization,
            devices=devices[:100],
        ),
    )


def annotations_of(declared: Declared) -> dict[str, str]:
    """As `declared_by` reads them; what says nothing is left out."""
    wants = declared.wants
    every = {
        CMDLINE: declared.cmdline,
        CPUS: str(wants.cpus or ""),
        DEVICES: ",".join(wants.devices),
        DISK_SIZE: str(declared.disk_size or ""),
        MEMORY: str(wants.memory or ""),
        VIRTUALIZATION: wants.virtualization,
    }
    return {name: value for name, value in every.items() if value}


def is_device(text: str) -> bool:
    return _DEVICE.fullmatch(text) is not None


def _whole(name: str, text: str, *, most: int) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > most:
        raise BadDocument(f"cannot use a manifest: {name} is {text[:40]!r}, no number up to {most}")
    return int(text)
