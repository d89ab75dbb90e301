"""Whether a content tree is signed by whom it must be: found beside it, proven by the verifier.

The signatures of an image lie under a tag that its digest gives. That tag is asked for, the
manifest under it and what was signed are fetched and claimed like other blobs, and the verifier
says which keys proved them. A tree that isn't proven fetches nothing of its own.
"""

from __future__ import annotations

from edgevirt.model.content import BlobChild, BlobRole, TagRequest
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_STATUS, CONTENT_TREE_STATUS, TAG_ANSWER
from edgevirt.node.volumes.walks import Resolved, Walk, Want, loaded
from edgevirt.runtime import Inputs
from edgevirt.wire import cosign, oci

LOOK_AGAIN = 600.0
"""Seconds after which signatures that proved nothing are looked up anew: somebody may sign."""


def is_proven(found: Walk, resolved: Resolved, inputs: Inputs) -> bool:
    """Adds what is to be fetched for the proof; sets `asks` and `unsigned` while it isn't one."""
    keys = found.tree.signers
    if not keys:
        return True
    assert found.digest is not None
    found.asks = signature_url(found.tree.url, found.digest)
    where = _where(found, resolved, inputs)
    if where is None:
        answer = inputs.get(TAG_ANSWER, question_key(found))
        if answer is not None and answer.url == found.asks and answer.trouble is not None:
            found.unsigned = f"it is not signed, as it must be: {answer.trouble.why}"
        return False
    found.want(Want(where, BlobRole.MANIFEST, max_size=oci.MAX_DOCUMENT, tag=found.asks))
    manifest = loaded(where, inputs)
    if manifest is None:
        return False
    payloads = _payloads(manifest.children)
    if not payloads:
        found.unsigned = "it is not signed, as it must be: no signature is beside it"
        return False
    for payload, signatures in payloads.items():
        found.want(
            Want(
                payload,
                BlobRole.PAYLOAD,
                max_size=cosign.MAX_PAYLOAD,
                signatures=signatures,
                keys=tuple(sorted(keys)),
            )
        )
    statuses = [inputs.get(BLOB_STATUS, payload) for payload in payloads]
    for status in statuses:
        proven = status is not None and status.signed == found.digest
        if proven and status is not None and set(status.signers) & set(keys):
            return True
    tried = [status for status in statuses if status is not None and set(keys) <= set(status.asked)]
    if len(tried) == len(payloads):
        found.unsigned = "none of its signatures is by a key that it must be signed with"
    return False


def signature_url(url: str, digest: Digest) -> str:
    """`repository:sha256-<hex>.sig`, of the repository of a content tree's URL."""
    name = url.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository = name
    return f"{repository}:{cosign.tag_of(digest)}"


def question_key(found: Walk) -> str:
    """Of the TagRequest for a tree's signatures."""
    return f"{found.tree.id}.sig"


def question(found: Walk, inputs: Inputs) -> tuple[TagRequest, float]:
    """(what to ask, seconds until it is to be asked anew). A tree that isn't proven asks again
    from time to time: who signs an image later need not touch the node.
    """
    attempt, left = 0, LOOK_AGAIN
    before = inputs.get(CONTENT_TREE_STATUS, found.tree.id)
    if found.unsigned and before is not None and before.trouble is not None:
        waited = max(0.0, inputs.now - before.trouble.since)
        attempt, left = int(waited // LOOK_AGAIN), LOOK_AGAIN - waited % LOOK_AGAIN
    asked = TagRequest(datastores=found.tree.datastores, url=found.asks, attempt=attempt)
    return asked, left


def _where(found: Walk, resolved: Resolved, inputs: Inputs) -> Digest | None:
    """Of the signatures' manifest: as answered last, else as remembered."""
    answer = inputs.get(TAG_ANSWER, question_key(found))
    if answer is not None and answer.url == found.asks and answer.digest is not None:
        return answer.digest
    return resolved.get((found.tree.id, found.asks))


def _payloads(children: tuple[BlobChild, ...]) -> dict[Digest, tuple[str, ...]]:
    """By digest of what was signed, its signatures; so many at most."""
    found: dict[Digest, tuple[str, ...]] = {}
    good = [one for one in children if one.role == BlobRole.PAYLOAD and one.signature]
    for child in good[: cosign.MAX_SIGNATURES]:
        if child.size <= cosign.MAX_PAYLOAD:
            found[child.digest] = (*found.get(child.digest, ()), child.signature)
    return found
