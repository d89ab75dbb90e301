"""From a spec to an OCI layout. The same input makes the same bytes, so the same digests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgevirt.host.volumes.image import BadDiskImage, read_disk_image
from edgevirt.image.eci.layout import Layout
from edgevirt.image.eci.oci import make_image, pack_layer
from edgevirt.image.eci.spec import Disk, EciSpec, SpecError, format_of
from edgevirt.model.content import ContentFormat, ImageConfig
from edgevirt.model.eci import Declared, PartKind, Wants
from edgevirt.model.ids import Digest
from edgevirt.model.quantity import whole
from edgevirt.wire import eci, oci

MOST_PIECES = 900
"""Layers of one disk; a manifest has a bound on all of them."""
_BLOCK = 1024 * 1024


def build(spec: EciSpec, base: Path, layout: Layout, name: str = "latest") -> Digest:
    """Makes `layout` hold the image alone. `base`: what the spec's paths are relative to. Returns
    the manifest's digest. Raises SpecError, LayoutError, OSError.
    """
    layout.make()
    manifest = _container(spec, base, layout) if spec.files else _machine(spec, base, layout)
    found = layout.add(manifest)
    layout.finish(oci.Descriptor(found.digest, found.size, oci.MANIFEST), name)
    return Digest(found.digest)


def platform_of(spec: EciSpec) -> oci.Platform:
    return oci.platform_of(spec.architecture) if spec.architecture else oci.machine()


def declared_of(spec: EciSpec, disk_size: int = 0) -> Declared:
    hardware = spec.hardware
    return Declared(
        cmdline=spec.cmdline,
        disk_size=disk_size,
        wants=Wants(
            cpus=hardware.cpus,
            memory=whole(hardware.memory),
            virtualization=hardware.virtualization,
            devices=hardware.devices,
        ),
    )


def _annotations(spec: EciSpec, disk_size: int = 0) -> dict[str, str]:
    every = {**spec.annotations, **eci.annotations_of(declared_of(spec, disk_size))}
    return dict(sorted(every.items()))


# -- containers -----------------------------------------------------------------------------------


def _container(spec: EciSpec, base: Path, layout: Layout) -> bytes:
    layers = []
    with tempfile.TemporaryDirectory(dir=layout.directory, prefix=".layers-") as scratch:
        for index, name in enumerate(spec.files):
            directory = base / name
            if not directory.is_dir():
                raise SpecError(f"cannot build: files[{index}]: {directory} is no directory")
            if directory.resolve() == layout.directory.resolve() or (
                directory.resolve() in layout.directory.resolve().parents
            ):
                raise SpecError(f"cannot build: files[{index}]: the image would hold itself")
            layer = pack_layer(directory, Path(scratch, str(index)))
            layer.path.replace(layout.blob(layer.digest))
            layers.append(layer)
    image = make_image(
        layers,
        ImageConfig(
            entrypoint=spec.entrypoint,
            cmd=spec.command,
            env=spec.env,
            workdir=spec.workdir,
            user=spec.user,
        ),
        platform_of(spec),
        _annotations(spec),
    )
    layout.add(image.config)
    return image.manifest


# -- machines -------------------------------------------------------------------------------------


def _machine(spec: EciSpec, base: Path, layout: Layout) -> bytes:
    layers: list[oci.Descriptor] = []
    labels: dict[str, str] = {}
    for field, kind, name, media_type in (
        ("kernel", PartKind.KERNEL, spec.kernel, eci.KERNEL),
        ("initrd", PartKind.INITRD, spec.initrd, eci.INITRD),
    ):
        if name:
            found = layout.add_part(_regular(field, base / name))
            layers.append(_part(found, media_type, kind.value, field))
            labels[f"{eci.LABELS}{field}"] = f"/{field}"
    size = 0
    if spec.root is not None and (spec.root.pieces or spec.root.chunk):
        pieces, size = _pieces(spec.root, base, layout)
        layers += pieces
    elif spec.root is not None:
        layers.append(_disk("root", spec.root, base, layout, PartKind.ROOT, labels))
    for index, disk in enumerate(spec.disks):
        layers.append(_disk(f"disks[{index}]", disk, base, layout, PartKind.DISK, labels))
    here = platform_of(spec)
    config = layout.add(
        oci.encode(
            oci.Config(
                architecture=here.architecture,
                os=here.os,
                variant=here.variant,
                config=oci.Process(labels=dict(sorted(labels.items()))),
                rootfs=oci.RootFs(diff_ids=tuple(layer.digest for layer in layers)),
            )
        )
    )
    return oci.encode(
        oci.Document(
            schema_version=2,
            media_type=oci.MANIFEST,
            config=oci.Descriptor(config.digest, config.size, oci.CONFIG),
            layers=tuple(layers),
            annotations=_annotations(spec, size) or None,
        )
    )


def _disk(
    field: str, disk: Disk, base: Path, layout: Layout, kind: PartKind, labels: dict[str, str]
) -> oci.Descriptor:
    path = _regular(f"{field}.file", base / disk.file)
    name = format_of(disk)
    _look_at_disk(field, path, eci.FORMATS[name])
    which = "root" if kind == PartKind.ROOT else field[6:-1]
    title = f"disk-{which}-{path.name}"
    labels[f"{eci.LABELS}{'root' if kind == PartKind.ROOT else f'disk-{which}'}"] = f"/{title}"
    return _part(layout.add_part(path), eci.DISK + name, kind.value, title)


def _look_at_disk(field: str, path: Path, format: ContentFormat) -> None:
    """Raises SpecError when it is of another format, or leads to other files; OSError."""
    try:
        read_disk_image(path, format)
    except BadDiskImage as error:
        raise SpecError(f"cannot build: {field}: {path}: {error}") from error


def _pieces(disk: Disk, base: Path, layout: Layout) -> tuple[list[oci.Descriptor], int]:
    """(layers, the disk's size)."""
    layers: list[oci.Descriptor] = []
    end = 0
    for field, path, at, source, size in _stretches(disk, base):
        if at < end:
            raise SpecError(f"cannot build: {field}: it begins before byte {end}, the last's end")
        found = layout.add_part(path, source, size)
        end = at + size
        title = f"disk-root-{at:016x}"
        annotations = {
            eci.OFFSET: str(at),
            eci.MEDIA_TYPE: eci.PIECE,
            eci.ROLE: eci.PIECE_ROLE,
            eci.TITLE: title,
        }
        layers.append(oci.Descriptor(found.digest, found.size, eci.PIECE, annotations=annotations))
        if len(layers) > MOST_PIECES:
            raise SpecError(
                f"cannot build: root.chunk: more than {MOST_PIECES} pieces: make it bigger"
            )
    whole_size = max(end, whole(disk.size))
    if disk.file:
        whole_size = max(whole_size, (base / disk.file).stat().st_size)
    if not layers:
        raise SpecError("cannot build: root: it holds nothing but zeros")
    return layers, whole_size


def _stretches(disk: Disk, base: Path) -> Iterator[tuple[str, Path, int, int, int]]:
    """(field, file, offset on the disk, offset in the file, bytes)."""
    for index, piece in enumerate(disk.pieces):
        field = f"root.pieces[{index}]"
        path = _regular(f"{field}.file", base / piece.file)
        yield field, path, whole(piece.offset), 0, path.stat().st_size
    if not disk.file:
        return
    path = _regular("root.file", base / disk.file)
    _look_at_disk("root", path, ContentFormat.RAW)
    chunk, size = whole(disk.chunk), path.stat().st_size
    with path.open("rb") as file:
        for at in range(0, size, chunk):
            length = min(chunk, size - at)
            if _holds_data(file.fileno(), at, length):
                yield "root.chunk", path, at, at, length


def _holds_data(descriptor: int, at: int, length: int) -> bool:
    """Whether a stretch is anything but zeros. Holes are not read."""
    try:
        if os.lseek(descriptor, at, os.SEEK_DATA) >= at + length:
            return False
    except OSError:  # nothing but a hole up to the end
        return False
    while length > 0:
        block = os.pread(descriptor, min(_BLOCK, length), at)
        if not block:
            return False
        if block.count(0) != len(block):
            return True
        at += len(block)
        length -= len(block)
    return False


def _part(found: oci.Descriptor, media_type: str, role: str, title: str) -> oci.Descriptor:
    annotations = {eci.MEDIA_TYPE: media_type, eci.ROLE: role, eci.TITLE: title}
    return oci.Descriptor(found.digest, found.size, media_type, annotations=annotations)


def _regular(field: str, path: Path) -> Path:
    if not path.is_file():
        raise SpecError(f"cannot build: {field}: there is no file {path}")
    return path
