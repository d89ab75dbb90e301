"""Of a content tree that is an Edge Container Image: which blobs are which parts of a machine.

Two forms, as lf-edge/edge-containers has them: each part is a blob, or a file in a layer of files.
In the second the layers' annotations tell which file, or, for an image that a stock tool built,
labels in its config do.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from msgspec import structs

from edgevirt.model.content import BlobChild, BlobRole, BlobStatus
from edgevirt.model.eci import ContentFormat, Part, PartKind, TreePart
from edgevirt.model.ids import Digest
from edgevirt.node.volumes.walks import Walk, Want, loaded
from edgevirt.runtime import Inputs
from edgevirt.wire import eci, oci

_BOOTING = frozenset({PartKind.KERNEL, PartKind.ROOT, PartKind.PIECE})


def add_parts(found: Walk, manifest: BlobStatus, inputs: Inputs) -> None:
    """Of a manifest whose layers say themselves which parts they are."""
    if manifest.declared is not None:
        found.declared = manifest.declared
    placed: list[tuple[Part, Digest]] = []
    for child in manifest.children:
        if child.role == BlobRole.MACHINE:
            if child.size > oci.MAX_DOCUMENT:
                found.fail(f"an image config of {child.size} bytes")
                return
            found.want(Want(child.digest, BlobRole.MACHINE, child.size))
        elif child.part is not None:
            placed.append((child.part, child.digest))
            seek = (child.part.file,) if child.part.file else ()
            found.want(
                Want(child.digest, child.role, child.size, media_type=child.media_type, seek=seek)
            )
    for part, digest in placed:
        status = loaded(digest, inputs)
        if part.file and (status is None or part.file not in status.asked):
            return
        if part.file and status is not None and part.file not in status.found:
            found.fail(f"there is no file {part.file} in its layer")
            return
    found.whole = True
    _settle(found, placed)


def add_labelled(
    found: Walk, layers: list[BlobChild], labels: Iterable[tuple[str, str]], inputs: Inputs
) -> None:
    """Of an image of files, whose config's labels name those that are parts."""
    parts = [eci.labelled_part(what, path) for what, path in labels]
    seek = tuple(sorted({part.file for part in parts}))
    for layer in layers:
        found.want(
            Want(
                layer.digest,
                BlobRole.LAYER,
                layer.size,
                media_type=layer.media_type,
                seek=seek,
            )
        )
    statuses = [loaded(layer.digest, inputs) for layer in layers]
    if not all(one is not None and set(seek) <= set(one.asked) for one in statuses):
        return
    found.whole = True
    placed = []
    for part in parts:
        holding = [one.digest for one in statuses if one is not None and part.file in one.found]
        if not holding:
            found.fail(f"there is no file {part.file} in its layers")
            return
        placed.append((part, holding[-1]))  # the topmost layer's
    _settle(found, placed)


def _settle(found: Walk, placed: list[tuple[Part, Digest]]) -> None:
    """What format each disk has, once and for all."""
    if not any(part.kind in _BOOTING for part, _ in placed):
        found.fail("nothing in it boots: no kernel and no root disk")
        return
    settled = []
    for part, digest in placed:
        if part.kind == PartKind.ROOT:
            part = structs.replace(part, format=_root_format(found, part))
        elif part.kind == PartKind.DISK:
            part = structs.replace(part, format=_own_format(part))
        if part.kind in {PartKind.ROOT, PartKind.DISK} and part.format == ContentFormat.UNKNOWN:
            found.fail(f"it doesn't tell the format of {part.file or part.kind}")
        settled.append(TreePart(part=part, digest=digest))
    found.parts = settled


def _root_format(found: Walk, part: Part) -> ContentFormat:
    own, asked = _own_format(part), found.tree.format
    if asked in {ContentFormat.CONTAINER, ContentFormat.UNKNOWN}:
        return own
    if part.format not in {ContentFormat.UNKNOWN, asked}:
        found.fail(f"its root disk is {part.format.name}, the config says {asked.name}")
    return asked


def _own_format(part: Part) -> ContentFormat:
    """As declared, else by the file's name."""
    suffix = PurePosixPath(part.file).suffix.removeprefix(".").lower()
    by_name = ContentFormat.RAW if suffix == "img" else eci.FORMATS.get(suffix, part.format)
    return part.format if part.format != ContentFormat.UNKNOWN else by_name
