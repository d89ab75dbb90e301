"""ContentTree → requests to the downloader, claims to the verifier, and each tree's status.

A blob that several trees need is fetched and kept once. It goes a while after nobody needs it:
no tree, no volume that lies on its layers. Nothing goes before a config is known: else a node
that starts would throw away what it is about to be told to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from edgevirt.model.content import (
    BlobClaim,
    BlobRequest,
    BlobRole,
    ContentFormat,
    ContentTree,
    TagRequest,
)
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import (
    AGENT_STATUS,
    BASE_OS,
    BLOB_CLAIM,
    BLOB_DOWNLOAD,
    BLOB_REQUEST,
    BLOB_STATUS,
    CONTENT_TREE,
    CONTENT_TREE_STATUS,
    PROPERTY,
    SNAPSHOT_STATUS,
    TAG_ANSWER,
    TAG_REQUEST,
    VOLUME_STATUS,
)
from edgevirt.node.properties import number
from edgevirt.node.volumes.blob_step import Blob, judge
from edgevirt.node.volumes.signatures import question as ask_for_signatures
from edgevirt.node.volumes.signatures import question_key
from edgevirt.node.volumes.tree_status import tree_status
from edgevirt.node.volumes.trees import walk
from edgevirt.node.volumes.walks import Walk, Want
from edgevirt.runtime import Again, Inputs, Kind, Output

GRACE = 30.0
"""Seconds for which an unused blob is kept, at least (`timer.defer.content.delete`)."""


class ContentPlanner:
    name = "content"
    reads: tuple[Kind[Any], ...] = (
        CONTENT_TREE,
        VOLUME_STATUS,
        SNAPSHOT_STATUS,
        TAG_ANSWER,
        BLOB_DOWNLOAD,
        BLOB_STATUS,
        PROPERTY,
        AGENT_STATUS,
        BASE_OS,
    )
    owns: tuple[Kind[Any], ...] = (TAG_REQUEST, BLOB_REQUEST, BLOB_CLAIM, CONTENT_TREE_STATUS)

    def __init__(self, *, vault_open: bool = True) -> None:
        """With the vault closed only the operating system's own image is cared for; of all else
        nothing is known, and nothing goes.
        """
        self._vault_open = vault_open
        if not vault_open:  # nobody knows the volumes, then
            unknown = (VOLUME_STATUS, SNAPSHOT_STATUS)
            self.reads = tuple(kind for kind in self.reads if kind not in unknown)

    def plan(self, inputs: Inputs) -> Iterator[Output | Again]:
        claims = inputs.all(BLOB_CLAIM)
        by_age = sorted(claims.values(), key=lambda claim: claim.unused_since is None)
        resolved = {tag: claim.digest for claim in by_age for tag in claim.tags}
        table = _Table(claims, inputs)
        system = inputs.get(BASE_OS, "node")
        for tree in sorted(inputs.all(CONTENT_TREE).values(), key=lambda tree: tree.id):
            ours = system is not None and tree.id == system.content_tree
            if ours:
                tree = _as_one_file(tree)
            elif not self._vault_open:
                continue
            found = walk(tree, resolved, inputs)
            if found.by_tag and (tree.id, tree.url) not in resolved:
                question = TagRequest(datastores=tree.datastores, url=tree.url)
                yield Output(TAG_REQUEST, tree.id, question)
            if found.asks and (found.unsigned or (tree.id, found.asks) not in resolved):
                asked, left = ask_for_signatures(found, inputs)
                yield Output(TAG_REQUEST, question_key(found), asked)
                yield Again(left)
            table.add(found, system=ours)
            status = tree_status(found, table.blobs, inputs)
            yield Output(CONTENT_TREE_STATUS, tree.id, status)
        for digest, request in table.requests.items():
            yield Output(BLOB_REQUEST, digest, request)
        for digest, claim in table.claims.items():
            yield Output(BLOB_CLAIM, digest, claim)
        unwanted = {key: claim for key, claim in claims.items() if key not in table.claims}
        yield from self._keep(unwanted, inputs)

    def _keep(self, unwanted: Mapping[str, BlobClaim], inputs: Inputs) -> Iterator[Output | Again]:
        if self._vault_open:
            yield from _keep_unused(unwanted, self._used(inputs), inputs)
            return
        for digest, claim in unwanted.items():
            if not claim.system:
                yield Output(BLOB_CLAIM, digest, claim)
        ours = {digest: claim for digest, claim in unwanted.items() if claim.system}
        yield from _keep_unused(ours, set(), inputs)

    def _used(self, inputs: Inputs) -> set[Digest]:
        """What volumes and snapshots lie on."""
        volumes = inputs.all(VOLUME_STATUS).values()
        layers = {Digest(f"sha256:{Path(layer).name}") for v in volumes for layer in v.layers}
        snapshots = inputs.all(SNAPSHOT_STATUS).values()
        kept = {blob for snapshot in snapshots for blob in snapshot.blobs}
        return layers | kept | {blob for volume in volumes for blob in volume.blobs}


def _as_one_file(tree: ContentTree) -> ContentTree:
    """A root image of the node is written to a partition as it is, however it was packed."""
    if tree.format is not ContentFormat.CONTAINER:
        return tree
    return structs.replace(tree, format=ContentFormat.RAW)


class _Table:
    """What all trees together want of each blob."""

    def __init__(self, before: Mapping[str, BlobClaim], inputs: Inputs) -> None:
        self.blobs: dict[Digest, Blob] = {}
        self.requests: dict[Digest, BlobRequest] = {}
        self.claims: dict[Digest, BlobClaim] = {}
        self._before = before
        self._inputs = inputs

    def add(self, found: Walk, *, system: bool = False) -> None:
        """May find out that the tree can't be had. Then what there is of it stays, as long as
        the tree does, and nothing more is fetched.
        """
        for want in found.wants:
            if found.trouble is None:
                self._add(found, want, system=system)
            elif want.digest in self._before and want.digest not in self.claims:
                self.claims[want.digest] = self._before[want.digest]

    def _add(self, found: Walk, want: Want, *, system: bool) -> None:
        other = self.blobs.get(want.digest)
        if other is not None and _conflicts(other.want, want):
            found.fail(f"another content tree takes {want.digest} for something else")
            return
        blob = judge(want, self._inputs)
        self.blobs[want.digest] = blob
        if blob.request is not None:
            request = _request(found.tree, want, blob.request)
            request = self.requests.get(want.digest, request)
            request = structs.replace(request, system=request.system or system)
            self.requests[want.digest] = request
        if blob.claim is not None:
            claim = self.claims.get(want.digest)
            tags = set(claim.tags) if claim is not None else set()
            if want.tag:
                tags.add((found.tree.id, want.tag))
            before = self._before.get(want.digest)
            self.claims[want.digest] = BlobClaim(
                digest=want.digest,
                role=want.role,
                attempt=blob.claim,
                media_type=want.media_type,
                diff_id=want.diff_id or (before.diff_id if before is not None else None),
                seek=_union(want.seek, claim.seek if claim else ()),
                signatures=_union(want.signatures, claim.signatures if claim else ()),
                keys=_union(want.keys, claim.keys if claim else ()),
                tags=tuple(sorted(tags)),
                system=system or (claim is not None and claim.system),
            )


def _union(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))


def _conflicts(one: Want, other: Want) -> bool:
    if one.role != other.role:
        return True
    return None not in {one.diff_id, other.diff_id} and one.diff_id != other.diff_id


def _request(tree: ContentTree, want: Want, attempt: int) -> BlobRequest:
    return BlobRequest(
        digest=want.digest,
        datastores=tree.datastores,
        url=tree.url,
        is_manifest=want.role == BlobRole.MANIFEST,
        size=want.size,
        max_size=want.max_size,
        attempt=attempt,
    )


def _keep_unused(
    left: Mapping[str, BlobClaim], used: set[Digest], inputs: Inputs
) -> Iterator[Output | Again]:
    """Claims that no tree needs: as long as a volume lies on them, and for a grace."""
    grace = max(GRACE, float(number(inputs, "timer.defer.content.delete")))
    for digest, claim in left.items():
        if claim.digest in used or not config_is_known(inputs):
            yield Output(BLOB_CLAIM, digest, structs.replace(claim, unused_since=None))
            continue
        since = claim.unused_since
        if since is None or since > inputs.now:  # the clock was set back
            since = inputs.now
        seconds = since + grace - inputs.now
        if seconds > 0:
            yield Output(BLOB_CLAIM, digest, structs.replace(claim, unused_since=since))
            yield Again(seconds)


def config_is_known(inputs: Inputs) -> bool:
    """The reader declares AGENT_STATUS."""
    agent = inputs.get(AGENT_STATUS, "node")
    return agent is not None and agent.config_from != ""
