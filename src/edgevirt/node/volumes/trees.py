"""One content tree, purely: which blobs it is made of as far as is known, and how far they are."""

from __future__ import annotations

from edgevirt.model.content import BlobChild, BlobRole, BlobStatus, ContentFormat, ContentTree
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_CLAIM, BLOB_DOWNLOAD, TAG_ANSWER
from edgevirt.node.volumes.machines import add_labelled, add_parts
from edgevirt.node.volumes.signatures import is_proven
from edgevirt.node.volumes.walks import Resolved, Walk, Want, loaded
from edgevirt.runtime import Inputs
from edgevirt.wire import eci, oci

MAX_DEPTH = 3
"""Index, manifest, config or layer."""
MAX_BLOBS = 2000


def walk(tree: ContentTree, resolved: Resolved, inputs: Inputs) -> Walk:
    """Follows the tree from its root through what the verifier has read so far. Of a tree that
    must be signed nothing is fetched before a signature is proven.
    """
    found = Walk(tree, _root_digest(tree, resolved, inputs))
    if found.digest is None or not is_proven(found, resolved, inputs):
        return found
    tag = tree.url if found.by_tag else ""
    if tree.format == ContentFormat.CONTAINER or _is_manifest(found.digest, inputs):
        _walk_manifest(found, found.digest, tag, inputs)
    else:
        found.want(Want(found.digest, BlobRole.FILE, max_size=tree.max_size, tag=tag))
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


def _walk_manifest(found: Walk, root: Digest, tag: str, inputs: Inputs) -> None:
    bound = min(found.tree.max_size or oci.MAX_DOCUMENT, oci.MAX_DOCUMENT)
    want = Want(root, BlobRole.MANIFEST, max_size=bound, tag=tag)
    for _ in range(MAX_DEPTH):
        found.want(want)
        status = loaded(want.digest, inputs)
        if status is None:
            return
        below = [child for child in status.children if child.role == BlobRole.MANIFEST]
        if not below:
            _add_children(found, status, inputs)
            return
        child = below[0]
        if child.size > bound:
            found.fail(f"a manifest of {child.size} bytes")
            return
        want = Want(child.digest, BlobRole.MANIFEST, child.size, media_type=child.media_type)
    found.fail("its indexes are nested too deeply")


def _add_children(found: Walk, manifest: BlobStatus, inputs: Inputs) -> None:
    if any(child.part is not None for child in manifest.children):
        add_parts(found, manifest, inputs)
        return
    if manifest.declared is not None:
        found.declared = manifest.declared
    layers = [child for child in manifest.children if child.role == BlobRole.LAYER]
    configs = [child for child in manifest.children if child.role == BlobRole.CONFIG]
    container = found.tree.format == ContentFormat.CONTAINER
    if container and (not configs or not layers):
        found.fail("it is no image of a container: no config, or no layers")
        return
    config = configs[0] if configs else None
    if config is None or not (container or _may_hold_files(config, layers)):
        _add_disk(found, layers)
        return
    if config.size > oci.MAX_DOCUMENT:
        found.fail(f"an image config of {config.size} bytes")
        return
    found.want(Want(config.digest, BlobRole.CONFIG, config.size))
    read = loaded(config.digest, inputs)
    if read is not None and read.labels:
        add_labelled(found, layers, read.labels, inputs)
    elif container:
        _add_layers(found, layers, read)
    elif read is not None:
        _add_disk(found, layers)


def _may_hold_files(config: BlobChild, layers: list[BlobChild]) -> bool:
    """Whether a disk may be a file in a layer, as labels in the config would tell."""
    packed = any(layer.media_type in eci.TARS for layer in layers)
    return packed and config.media_type in oci.CONFIGS


def _add_layers(found: Walk, layers: list[BlobChild], read: BlobStatus | None) -> None:
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
    for layer in layers:
        found.want(
            Want(
                layer.digest,
                BlobRole.LAYER,
                layer.size,
                media_type=layer.media_type,
                diff_id=known[layer.digest],
                claimable=read is not None,
            )
        )


def _add_disk(found: Walk, layers: list[BlobChild]) -> None:
    """A disk in a registry that says nothing of itself is the one layer of its manifest."""
    if len(layers) != 1:
        found.fail(f"a disk image is one layer, not {len(layers)}")
        return
    disk = layers[0]
    found.want(Want(disk.digest, BlobRole.FILE, disk.size, media_type=disk.media_type))
    found.file = disk.digest
    found.whole = True
