"""BlobClaim → BlobStatus: proves a downloaded blob, keeps it, and prepares it for its use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from msgspec import structs

from edgevirt.host.content.intake import Cancelled, Missing, WrongDigest
from edgevirt.host.content.store import ContentStore
from edgevirt.host.content.stream import CannotUnpack, NoRoom
from edgevirt.host.content.unpack import Limits
from edgevirt.model.base import SwState
from edgevirt.model.content import BlobClaim, BlobRole, BlobStatus
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_CLAIM, BLOB_STATUS
from edgevirt.node.troubles import worsen
from edgevirt.runtime import Inputs, Kind, Refuse, Report, Retry
from edgevirt.wire import cosign, oci

AT_ONCE = 2
"""Blobs that are hashed or unpacked side by side: as many as a small machine has cores."""
LOOK_AGAIN = 2.0
"""Seconds between looks for a download that isn't there yet."""
RETRY_FULL = 60.0
"""Seconds after which a disk that was full is tried again."""
LEAST_BOUND = 4 * 1024**3
EXPANSION = 8
"""A layer may unpack to LEAST_BOUND or to so many times its size. Real ones need 2 to 5."""


class ClaimReconciler:
    name = "claims"
    spec: Kind[Any] = BLOB_CLAIM
    status: Kind[Any] = BLOB_STATUS
    reads: tuple[Kind[Any], ...] = ()
    recheck: float | None = None

    def __init__(
        self, content: ContentStore | None, here: oci.Platform, system: ContentStore | None = None
    ) -> None:
        """`content`: in the vault; None: it is closed, and what lies in it is left as it is.
        `system`: of the node's own operating system.
        """
        self._content = content
        self._system = system
        self._here = here
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._settled: dict[str, BlobClaim] = {}
        self._stopped = False

    def stop(self) -> None:
        """Ends what runs in threads soon."""
        self._stopped = True

    async def existing(self) -> Iterable[str]:
        found: set[Digest] = set()
        for store in self._stores():
            found |= await asyncio.to_thread(store.existing)
        return found

    def _stores(self) -> list[ContentStore]:
        return [store for store in (self._content, self._system) if store is not None]

    async def reconcile(
        self, key: str, spec: BlobClaim | None, inputs: Inputs, report: Report[BlobStatus]
    ) -> BlobStatus | None:
        if not oci.is_digest(key):
            raise Refuse(f"cannot keep a blob {key!r}: it is no sha256 digest")
        if spec is None:
            self._settled.pop(key, None)
            for store in self._stores():
                await asyncio.to_thread(store.remove, Digest(key))
            return None
        content = self._system if spec.system else self._content
        if content is None:
            return inputs.get(BLOB_STATUS, key)
        before = inputs.get(BLOB_STATUS, key)
        asked = structs.replace(spec, tags=(), unused_since=None)
        if before is not None and self._settled.get(key) == asked:
            return before
        quiet = before is not None and before.state == SwState.LOADED
        work = _Work(spec, content, report, lambda: self._is_cancelled(key, inputs), quiet=quiet)
        async with self._slots:
            status = await self._prepare(work, before, inputs)
        self._settled[key] = asked
        if status.state == SwState.LOADED:
            content.believe(spec.digest)
        return status

    def _is_cancelled(self, key: str, inputs: Inputs) -> bool:
        return self._stopped or inputs.get(BLOB_CLAIM, key) is None

    async def _prepare(self, work: _Work, before: BlobStatus | None, inputs: Inputs) -> BlobStatus:
        claim = work.claim
        trouble = before.trouble if before else None
        try:
            return await self._prove_and_use(work)
        except Cancelled:
            raise Retry("no longer wanted", after=0.0) from None
        except Missing as missing:
            await work.report(work.status(SwState.INITIAL))
            raise Retry(str(missing), after=LOOK_AGAIN) from missing
        except NoRoom as full:
            trouble = worsen(trouble, full, inputs.now, RETRY_FULL)
            await work.report(work.status(SwState.VERIFYING, trouble=trouble))
            raise Retry(str(full), after=RETRY_FULL) from full
        except WrongDigest as wrong:
            trouble = worsen(trouble, wrong, inputs.now)
            return work.status(SwState.FAILED, wrong=True, trouble=trouble)
        except (CannotUnpack, oci.BadDocument, cosign.BadKey) as bad:
            why = f"{bad} ({claim.digest})"
            return work.status(SwState.FAILED, trouble=worsen(None, why, inputs.now))

    async def _prove_and_use(self, work: _Work) -> BlobStatus:
        claim, content = work.claim, work.content
        await work.under_way(SwState.VERIFYING)
        size = await asyncio.to_thread(content.ensure, claim.digest, work.cancelled)
        match claim.role:
            case BlobRole.FILE:
                return work.status(SwState.LOADED, size=size, path=str(content.blob(claim.digest)))
            case BlobRole.LAYER:
                return await self._load_layer(work, size)
            case _:
                data = await asyncio.to_thread(content.read, claim.digest)
                return work.status(SwState.LOADED, size=size, **_read(claim, data, self._here))

    async def _load_layer(self, work: _Work, size: int) -> BlobStatus:
        claim = work.claim
        await work.under_way(SwState.LOADING, size=size)
        limits = Limits(bytes=claim.max_unpacked or max(LEAST_BOUND, EXPANSION * size))
        unpacked = await asyncio.to_thread(
            partial(work.content.unpack, claim.digest, claim.diff_id, limits, work.cancelled)
        )
        path = str(work.content.layer(claim.digest))
        found = await asyncio.to_thread(work.content.files_in, claim.digest, claim.seek)
        return work.status(SwState.LOADED, size=size, path=path, unpacked=unpacked, found=found)


def _read(claim: BlobClaim, data: bytes, here: oci.Platform) -> dict[str, Any]:
    """What a document says, as fields of its status. Raises BadDocument, BadKey."""
    match claim.role:
        case BlobRole.MANIFEST:
            manifest = oci.parse_manifest(data, here)
            return {"children": manifest.children, "declared": manifest.declared}
        case BlobRole.CONFIG:
            image, diff_ids = oci.parse_config(data, here)
            return {"image": image, "diff_ids": diff_ids, "labels": oci.parse_labels(data)}
        case BlobRole.MACHINE:
            oci.check_machine(data, here)
            return {}
        case BlobRole.PAYLOAD:
            return {
                "signed": cosign.parse_payload(data),
                "signers": tuple(
                    key
                    for key in claim.keys
                    if any(cosign.proves(data, one, key) for one in claim.signatures)
                ),
            }
    raise AssertionError(claim.role)


class _Work:
    """One claim at work. `quiet`: it was loaded before this process was; apps run on it, and
    needn't hear that it is looked at again.
    """

    def __init__(
        self,
        claim: BlobClaim,
        content: ContentStore,
        report: Report[BlobStatus],
        cancelled: Callable[[], bool],
        *,
        quiet: bool,
    ) -> None:
        self.claim = claim
        self.content = content
        self.report = report
        self.cancelled = cancelled
        self._quiet = quiet

    async def under_way(self, state: SwState, size: int = 0) -> None:
        if not self._quiet:
            await self.report(self.status(state, size=size))

    def status(self, state: SwState, **fields: Any) -> BlobStatus:
        return BlobStatus(
            digest=self.claim.digest,
            state=state,
            attempt=self.claim.attempt,
            asked=self.claim.seek or self.claim.keys,
            **fields,
        )
