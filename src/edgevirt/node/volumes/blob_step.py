"""One blob, purely: how far it is, and what the downloader and the verifier are to do next."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import BlobStatus
from edgevirt.model.kinds import BLOB_CLAIM, BLOB_DOWNLOAD, BLOB_REQUEST, BLOB_STATUS
from edgevirt.node.properties import number
from edgevirt.node.volumes.walks import Want
from edgevirt.runtime import Inputs

_IN_STORE = frozenset({SwState.VERIFIED, SwState.LOADING, SwState.LOADED})


class Blob(msgspec.Struct, frozen=True):
    """One wanted blob. `request`, `claim`: the attempt that the downloader, the verifier is to
    work at; None: there is nothing to do for it.
    """

    want: Want
    state: SwState
    request: int | None = None
    claim: int | None = None
    received: int = 0
    size: int = 0
    trouble: Trouble | None = None


def judge(want: Want, inputs: Inputs) -> Blob:
    """A blob is requested until the verifier has it, and claimed from when it is downloaded.
    Bytes that were wrong are downloaded again, while the claim stays.
    """
    claim = inputs.get(BLOB_CLAIM, want.digest)
    status = inputs.get(BLOB_STATUS, want.digest)
    attempt = claim.attempt if claim is not None else 0
    held = attempt if claim is not None else None
    if status is not None and status.state in _IN_STORE:
        blob = Blob(want, status.state, claim=attempt, trouble=status.trouble)
    elif status is not None and status.wrong and status.attempt == attempt:
        blob = _after_wrong(want, attempt, status, inputs)
    elif claim is None or (status is not None and status.state == SwState.INITIAL):
        blob = _fetching(want, attempt, held, inputs)
    elif status is not None and status.state == SwState.FAILED and status.attempt == attempt:
        blob = Blob(want, SwState.FAILED, claim=attempt, trouble=status.trouble)
    else:
        blob = _verifying(want, attempt, status, inputs)
    return replace(blob, size=_size(want, inputs))


def _fetching(want: Want, attempt: int, held: int | None, inputs: Inputs) -> Blob:
    """`attempt` is asked for; it is claimed as soon as it is there. Until then the claim, if
    there is one, stays at the attempt `held`.
    """
    download = inputs.get(BLOB_DOWNLOAD, want.digest)
    if download is None or download.attempt != attempt:
        return Blob(want, SwState.DOWNLOADING, attempt, held)
    state = download.state
    if state == SwState.DOWNLOADED and want.claimable:
        held = attempt
    elif state not in {SwState.DOWNLOADED, SwState.FAILED}:
        state = SwState.DOWNLOADING
    return Blob(want, state, attempt, held, download.received, trouble=download.trouble)


def _after_wrong(want: Want, attempt: int, status: BlobStatus, inputs: Inputs) -> Blob:
    most = number(inputs, "blob.download.max.retries")
    if attempt >= most:
        trouble = Trouble(
            why=f"cannot use {want.digest}: its bytes were wrong, {attempt} retries included",
            since=status.trouble.since if status.trouble is not None else 0.0,
            attempts=attempt + 1,
        )
        return Blob(want, SwState.FAILED, claim=attempt, trouble=trouble)
    blob = _fetching(want, attempt + 1, attempt, inputs)
    return replace(blob, trouble=blob.trouble or status.trouble)


def _verifying(want: Want, attempt: int, status: BlobStatus | None, inputs: Inputs) -> Blob:
    """After a restart nothing is requested until the verifier says that it is missing."""
    asked = inputs.get(BLOB_REQUEST, want.digest)
    return Blob(
        want,
        SwState.VERIFYING,
        request=attempt if asked is not None else None,
        claim=attempt,
        trouble=status.trouble if status is not None and not status.wrong else None,
    )


def _size(want: Want, inputs: Inputs) -> int:
    """By the manifest, else as kept, else as announced; 0: not known yet."""
    status = inputs.get(BLOB_STATUS, want.digest)
    download = inputs.get(BLOB_DOWNLOAD, want.digest)
    kept = status.size if status is not None else 0
    return want.size or kept or (download.size if download is not None else 0)
