"""One content tree, purely: which blobs it is made of as far as is known, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgevirt.model.base import SwState
from edgevirt.model.content import (
    BlobChild,
    BlobRole,
    BlobStatus,
    ContentFormat,
    ContentTree,
    ImageConfig,
)
from edgevirt.model.ids import ContentTreeId, Digest
from edgevirt.model.kinds import BLOB_CLAIM, BLOB_DOWNLOAD, BLOB_STATUS, TAG_ANSWER
from edgevirt.runtime import Inputs
from edgevirt.wire import oci

MAX_DEPTH = 3
"""Index, manifest, config or layer."""
MAX_BLOBS = 2000


@dataclass(frozen=True)
class Want:
    """A blob that a tree needs, and what for."""

    digest: Digest
    role: BlobRole
    size: int = 0
    """0: unknown."""
    max_size: int = 0
    media_type: str = ""
    diff_id: Digest | None = None
    claimable: bool = True
    """False: how to prepare it isn't known yet; it is fetched meanwhile."""


@dataclass
class Walk:
    """What is known of a tree now."""

    tree: ContentTree
    digest: Digest | None = None
    """Of the root."""
    wants: list[Want] = field(default_factory=list)
    layers: list[Digest] = field(default_factory=list)
    """Lowest first; a layer may come twice."""
    file: Digest | None = None
    """Of a tree that is one file."""
    image: ImageConfig | None = None
    whole: bool = False
    """Every blob is known."""
    trouble: str | None = None
    """Why the tree can't be had, whatever is tried."""

    @property
    def by_tag(self) -> bool:
        """The digest was asked for, not given."""
        return not self.tree.sha256 and not oci.is_digest(self.tree.url.rpartition("@")[2])

    def fail(self, why: str) -> None:
        self.trouble = f"cannot load {self.tree.url}: {why}"


Resolved = Mapping[tuple[ContentTreeId, str], Digest]
"""Tags (of a content tree, at a url) whose digest is remembered."""


def walk(tree: ContentTree, resolved: Resolved, inputs: Inputs) -> Walk:
    """Follows the tree from its root through what the verifier has read so far."""
    found = Walk(tree, _root_digest(tree, resolved, inputs))
    if found.digest is None:
        return found
    if tree.format == ContentFormat.CONTAINER or _is_manifest(found.digest, inputs):
        _walk_manifest(found, found.digest, inputs)
    else:
        found.wants.append(Want(found.digest, BlobRole.FILE, max_size=tree.max_size))
        found.file = found.digest
        found.whole = True
    total = sum(want.size for want in found.wants)
    if tree.max_size and total > tree.max_size:
        found.fail(f"it has {total} bytes, allowed are {tree.max_size}")
    if len(found.wants) > MAX_BLOBS:
        found.fail(f"it has {len(found.wants)} blobs")
    return found


def _root_digest(tree: ContentTree, resolved: Resolved, inputs: Inputs) -> Digest | None:
    if tree.sha256:
        return Digest(f"sha256:{tree.sha256.lower()}")
    named = tree.url.rpartition("@")[2]
    if oci.is_digest(named):
        return Digest(named)
    remembered = resolved.get((tree.id, tree.url))
    if remembered is not None:
        return remembered
    answer = inputs.get(TAG_ANSWER, tree.id)
    return answer.digest if answer is not None and answer.url == tree.url else None


def _is_manifest(digest: Digest, inputs: Inputs) -> bool:
    """A disk image in a registry: its root turned out to be a manifest when it was fetched."""
    claim = inputs.get(BLOB_CLAIM, digest)
    if claim is not None:
        return claim.role == BlobRole.MANIFEST
    download = inputs.get(BLOB_DOWNLOAD, digest)
    return download is not None and download.media_type in oci.MANIFESTS


def _walk_manifest(found: Walk, root: Digest, inputs: Inputs) -> None:
    bound = min(found.tree.max_size or oci.MAX_DOCUMENT, oci.MAX_DOCUMENT)
    want = Want(root, BlobRole.MANIFEST, max_size=bound)
    for _ in range(MAX_DEPTH):
        found.wants.append(want)
        status = _loaded(want.digest, inputs)
        if status is None:
            return
        below = [child for child in status.children if child.role == BlobRole.MANIFEST]
        if not below:
            _add_children(found, status.children, inputs)
            return
        child = below[0]
        if child.size > bound:
            found.fail(f"a manifest of {child.size} bytes")
            return
        want = Want(child.digest, BlobRole.MANIFEST, child.size, media_type=child.media_type)
    found.fail("its indexes are nested too deeply")


def _add_children(found: Walk, children: tuple[BlobChild, ...], inputs: Inputs) -> None:
    layers = [child for child in children if child.role == BlobRole.LAYER]
    configs = [child for child in children if child.role == BlobRole.CONFIG]
    if found.tree.format != ContentFormat.CONTAINER:
        _add_disk(found, layers, inputs)
        return
    if not configs or not layers:
        found.fail("it is no image of a container: no config, or no layers")
        return
    config = configs[0]
    if config.size > oci.MAX_DOCUMENT:
        found.fail(f"an image config of {config.size} bytes")
        return
    found.wants.append(Want(config.digest, BlobRole.CONFIG, config.size))
    read = _loaded(config.digest, inputs)
    diff_ids: tuple[Digest | None, ...] = (None,) * len(layers)
    if read is not None:
        if len(read.diff_ids) != len(layers):
            found.fail(f"{len(layers)} layers, but {len(read.diff_ids)} in its config")
            return
        diff_ids = read.diff_ids
        found.image = read.image
    found.whole = True
    known: dict[Digest, Digest | None] = {}
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        found.layers.append(layer.digest)
        if known.setdefault(layer.digest, diff_id) != diff_id:
            found.fail("one layer is said to hold two contents")
            return
    for layer in {layer.digest: layer for layer in layers}.values():
        found.wants.append(
            Want(
                layer.digest,
                BlobRole.LAYER,
                layer.size,
                media_type=layer.media_type,
                diff_id=known[layer.digest],
                claimable=read is not None,
            )
        )


def _add_disk(found: Walk, layers: list[BlobChild], inputs: Inputs) -> None:
    """A disk in a registry is the one layer of its manifest."""
    if len(layers) != 1:
        found.fail(f"a disk image is one layer, not {len(layers)}")
        return
    disk = layers[0]
    found.wants.append(Want(disk.digest, BlobRole.FILE, disk.size, media_type=disk.media_type))
    found.file = disk.digest
    found.whole = True


def _loaded(digest: Digest, inputs: Inputs) -> BlobStatus | None:
    status = inputs.get(BLOB_STATUS, digest)
    return status if status is not None and status.state == SwState.LOADED else None
