"""How far a content tree is, by its blobs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import ContentFormat, ContentTreeStatus
from edgevirt.model.eci import Declared, PartKind, TreePart
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_STATUS, CONTENT_TREE_STATUS, TAG_ANSWER
from edgevirt.node.volumes.blob_step import Blob
from edgevirt.node.volumes.walks import Walk
from edgevirt.runtime import Inputs

_ORDER = (
    (SwState.DOWNLOADING, SwState.DOWNLOADING),
    (SwState.DOWNLOADED, SwState.VERIFYING),
    (SwState.VERIFYING, SwState.VERIFYING),
    (SwState.VERIFIED, SwState.LOADING),
    (SwState.LOADING, SwState.LOADING),
)
"""The first state that one of the blobs is in makes the tree's."""
_UNDER_WAY = frozenset({SwState.DOWNLOADING, SwState.FAILED})


def tree_status(found: Walk, blobs: Mapping[Digest, Blob], inputs: Inputs) -> ContentTreeStatus:
    tree = found.tree
    before = inputs.get(CONTENT_TREE_STATUS, tree.id)
    mine = [blobs[want.digest] for want in found.wants if want.digest in blobs]
    state = _state(found, mine)
    loaded = state == SwState.LOADED
    parts = tuple(_placed(part, inputs) for part in found.parts) if loaded else ()
    return ContentTreeStatus(
        id=tree.id,
        content=tree.content,
        state=state,
        since=before.since if before is not None and before.state == state else inputs.now,
        name=tree.name,
        digest=found.digest,
        progress=100 if loaded else _percent(found, mine),
        size=sum(blob.size for blob in mine),
        blobs=tuple(want.digest for want in found.wants),
        path=_root_path(found, parts, inputs) if loaded else "",
        format=_format(found) if loaded else ContentFormat.UNKNOWN,
        disk_size=_disk_size(found, inputs) if loaded else 0,
        parts=parts,
        declared=found.declared if loaded else Declared(),
        layers=tuple(_path(layer, inputs) for layer in found.layers) if loaded else (),
        image=found.image if loaded else None,
        trouble=_trouble(found, mine, before, inputs),
    )


def _state(found: Walk, mine: Sequence[Blob]) -> SwState:
    if found.trouble is not None:
        return SwState.FAILED
    if found.digest is None:
        return SwState.RESOLVING_TAG
    if found.unsigned:
        return SwState.FAILED
    if not found.wants:
        return SwState.RESOLVING_TAG
    states = {blob.state for blob in mine}
    if SwState.FAILED in states:
        return SwState.FAILED
    if not found.whole:  # a manifest that is being verified leads to further downloads
        return SwState.DOWNLOADING
    for one, makes in _ORDER:
        if one in states:
            return makes
    return SwState.LOADED


def _percent(found: Walk, mine: Sequence[Blob]) -> int:
    """Of the bytes; 0 until it is known how many there are."""
    total = sum(blob.size for blob in mine)
    if not found.whole or total == 0:
        return 0
    here = sum(blob.received if blob.state in _UNDER_WAY else blob.size for blob in mine)
    return min(100, here * 100 // total)


def _trouble(
    found: Walk, mine: Sequence[Blob], before: ContentTreeStatus | None, inputs: Inputs
) -> Trouble | None:
    """The tree's own, or a blob's: one that ended the attempts before one that is retried."""
    why = found.trouble
    if why is None and found.unsigned:
        why = f"cannot load {found.tree.url}: {found.unsigned}"
    if why is not None:
        if before is not None and before.trouble and before.trouble.why == why:
            return before.trouble
        return Trouble(why=why, since=inputs.now)
    if found.digest is None:
        answer = inputs.get(TAG_ANSWER, found.tree.id)
        return answer.trouble if answer is not None and answer.url == found.tree.url else None
    troubled = [blob for blob in mine if blob.trouble is not None]
    troubled.sort(key=lambda blob: blob.state != SwState.FAILED)
    return troubled[0].trouble if troubled else None


def _path(digest: Digest, inputs: Inputs) -> str:
    status = inputs.get(BLOB_STATUS, digest)
    return status.path if status is not None else ""


def _placed(one: TreePart, inputs: Inputs) -> TreePart:
    return structs.replace(one, path=_path(one.digest, inputs) + one.part.file)


def _root_path(found: Walk, parts: Sequence[TreePart], inputs: Inputs) -> str:
    if found.file is not None:
        return _path(found.file, inputs)
    return next((one.path for one in parts if one.part.kind == PartKind.ROOT), "")


def _format(found: Walk) -> ContentFormat:
    if not found.parts:
        return found.tree.format
    kinds = {one.part.kind: one.part.format for one in found.parts}
    if PartKind.PIECE in kinds:
        return ContentFormat.RAW
    return kinds.get(PartKind.ROOT, ContentFormat.UNKNOWN)


def _disk_size(found: Walk, inputs: Inputs) -> int:
    """Of a file in a layer no more is known than what the whole layer takes."""
    if found.file is not None:
        return _size(found.file, inputs)
    end = 0
    for one in found.parts:
        if one.part.kind == PartKind.PIECE:
            end = max(end, one.part.offset + _size(one.digest, inputs))
        if one.part.kind == PartKind.ROOT:
            status = inputs.get(BLOB_STATUS, one.digest)
            end = status.unpacked or status.size if status is not None else 0
    return max(end, found.declared.disk_size)


def _size(digest: Digest, inputs: Inputs) -> int:
    status = inputs.get(BLOB_STATUS, digest)
    return status.size if status is not None else 0
