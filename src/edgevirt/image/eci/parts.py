"""The parts of an image in a layout, as files: what `eci run` starts."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgevirt.host.volumes.image import BadDiskImage, read_disk_image
from edgevirt.image.eci.layout import Layout, LayoutError
from edgevirt.model.content import BlobChild, BlobRole, ImageConfig
from edgevirt.model.eci import ContentFormat, Declared, Part, PartKind
from edgevirt.model.ids import Digest
from edgevirt.wire import eci, oci
from edgevirt.wire.errors import BadDocument

_BLOCK = 1024 * 1024
_MAX_PART = 64 << 30


@dataclass(frozen=True)
class DiskFile:
    path: Path
    format: ContentFormat


@dataclass(frozen=True)
class MachineParts:
    declared: Declared
    root: DiskFile | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    disks: tuple[DiskFile, ...] = ()


@dataclass(frozen=True)
class ContainerParts:
    declared: Declared
    image: ImageConfig
    layers: tuple[Path, ...]
    """Packed, lowest first."""


def read(layout: Layout, scratch: Path, here: oci.Platform) -> MachineParts | ContainerParts:
    """Proves every blob. What has to be made of several, or to be unpacked, goes to `scratch`.
    Raises LayoutError, BadDocument.
    """
    root = layout.root()
    data = layout.read(Digest(root.digest))
    manifest = oci.parse_manifest(data, here)
    if any(child.role == BlobRole.MANIFEST for child in manifest.children):
        raise LayoutError("cannot run an index: pull the image of one machine")
    for child in manifest.children:
        layout.prove(child.digest)
    configs = [one for one in manifest.children if one.role in {BlobRole.CONFIG, BlobRole.MACHINE}]
    config = layout.read(configs[0].digest) if configs else b"{}"
    if manifest.parts:
        oci.check_machine(config, here)
        placed = [(one.part, one.digest) for one in manifest.children if one.part is not None]
        return _machine(layout, scratch, manifest.declared, placed)
    layers = [child for child in manifest.children if child.role == BlobRole.LAYER]
    labels = oci.parse_labels(config)
    if labels:
        oci.check_machine(config, here)
        return _machine(layout, scratch, manifest.declared, _labelled(layout, layers, labels))
    image, _ = oci.parse_config(config, here)
    paths = tuple(layout.blob(layer.digest) for layer in layers)
    return ContainerParts(manifest.declared, image, paths)


def _labelled(
    layout: Layout, layers: list[BlobChild], labels: Iterable[tuple[str, str]]
) -> list[tuple[Part, Digest]]:
    placed = []
    for what, path in labels:
        holding = [one.digest for one in layers if _holds(layout.blob(one.digest), path)]
        if not holding:
            raise LayoutError(f"cannot run the image: there is no file {path} in its layers")
        placed.append((eci.labelled_part(what, path), holding[-1]))
    return placed


def _machine(
    layout: Layout, scratch: Path, declared: Declared, placed: list[tuple[Part, Digest]]
) -> MachineParts:
    files = {
        part.kind: _file(layout, scratch, part, digest)
        for part, digest in placed
        if part.kind in {PartKind.KERNEL, PartKind.INITRD}
    }
    disks = [
        _disk(part, _file(layout, scratch, part, digest))
        for part, digest in placed
        if part.kind == PartKind.DISK
    ]
    roots = [(part, digest) for part, digest in placed if part.kind == PartKind.ROOT]
    pieces = [(part, digest) for part, digest in placed if part.kind == PartKind.PIECE]
    root = None
    if roots:
        root = _disk(roots[0][0], _file(layout, scratch, *roots[0]))
    elif pieces:
        root = DiskFile(_compose(layout, scratch, declared, pieces), ContentFormat.RAW)
    if root is None and PartKind.KERNEL not in files:
        raise LayoutError("cannot run the image: no kernel and no root disk")
    return MachineParts(
        declared, root, files.get(PartKind.KERNEL), files.get(PartKind.INITRD), tuple(disks)
    )


def _disk(part: Part, path: Path) -> DiskFile:
    suffix = PurePosixPath(part.file).suffix.removeprefix(".").lower()
    by_name = ContentFormat.RAW if suffix == "img" else eci.FORMATS.get(suffix)
    format = part.format if part.format != ContentFormat.UNKNOWN else by_name
    if format is None:
        raise LayoutError(f"cannot run the image: it doesn't tell the format of {part.file}")
    try:
        read_disk_image(path, format)
    except BadDiskImage as error:
        raise BadDocument(f"cannot use the disk {part.file or path.name}: {error}") from error
    return DiskFile(path, format)


def _file(layout: Layout, scratch: Path, part: Part, digest: Digest) -> Path:
    """The blob, or the one file of it that is the part."""
    blob = layout.blob(digest)
    if not part.file:
        return blob
    target = scratch / f"{part.kind}-{part.disk}"
    try:
        with tarfile.open(blob, "r:*") as tar:
            member = _member(tar, part.file)
            source = tar.extractfile(member) if member is not None else None
            if member is None or source is None:
                raise LayoutError(f"cannot run the image: there is no file {part.file} in a layer")
            if member.size > _MAX_PART:
                raise LayoutError(f"cannot run the image: {part.file} has {member.size} bytes")
            with target.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise LayoutError(f"cannot run the image: a layer cannot be read: {error}") from error
    return target


def _holds(blob: Path, path: str) -> bool:
    try:
        with tarfile.open(blob, "r:*") as tar:
            return _member(tar, path) is not None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadDocument(f"cannot use a layer: {error}") from error


def _member(tar: tarfile.TarFile, path: str) -> tarfile.TarInfo | None:
    wanted = path.lstrip("/")
    for member in tar:
        if member.isreg() and member.name.removeprefix("./").lstrip("/") == wanted:
            return member
    return None


def _compose(
    layout: Layout, scratch: Path, declared: Declared, pieces: list[tuple[Part, Digest]]
) -> Path:
    target = scratch / "root.raw"
    with target.open("wb") as file:
        for part, digest in pieces:
            file.seek(part.offset)
            with layout.blob(digest).open("rb") as source:
                shutil.copyfileobj(source, file, _BLOCK)
        end = file.tell()
        os.ftruncate(file.fileno(), max(end, declared.disk_size))
    return target
