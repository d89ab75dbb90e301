"""BlobRequest → BlobDownload: brings bytes to `downloads/<hex>` and never looks into them.

A transfer that broke off, the node's end included, goes on at the byte where it stopped. Whether
the bytes are the right ones the verifier says; `attempt` then tells to start over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec

from edgevirt.host.content.partial import DiskFull, Partial, names_in
from edgevirt.host.fetch import BeyondEnd, CannotFetch, Source, Transfer, Wanted
from edgevirt.host.files import room
from edgevirt.model.base import SwState, Trouble
from edgevirt.model.content import BlobDownload, BlobRequest
from edgevirt.model.ids import Digest
from edgevirt.model.kinds import BLOB_DOWNLOAD, BLOB_REQUEST, PROPERTY
from edgevirt.node.downloader import sources
from edgevirt.node.downloader.retries import Jitter, delay
from edgevirt.node.troubles import worsen
from edgevirt.runtime import Clock, Inputs, Kind, Refuse, Report, Retry
from edgevirt.wire import oci

AT_ONCE = 6
"""Transfers side by side: enough for a line with some latency, few enough for its buffers."""
REPORT_EVERY = 3.0
"""Seconds between words about the progress: each goes through four services and to the controller,
which takes as much of a small processor as a megabyte that comes in.
"""
GRACE = 60.0
"""Seconds that bytes are kept after nobody wants them: somebody may again, and goes on there."""
LEFTOVER_GRACE = 3600.0
"""The same for bytes found at start that nobody has asked for since."""


class TooBig(CannotFetch):
    """There is more than was allowed: no retry."""


class Directories(msgspec.Struct, frozen=True):
    """`apps`: in the vault; it is not there while that is closed, and what apps need waits."""

    apps: Path
    system: Path

    def of(self, spec: BlobRequest) -> Path:
        return self.system if spec.system else self.apps

    def present(self) -> list[Path]:
        return [place for place in (self.apps, self.system) if place.is_dir()]


class BlobReconciler:
    name = "blobs"
    spec: Kind[Any] = BLOB_REQUEST
    status: Kind[Any] = BLOB_DOWNLOAD
    reads: tuple[Kind[Any], ...] = (*sources.READS, PROPERTY)
    recheck: float | None = None

    def __init__(
        self,
        directories: Directories,
        sources: sources.Sources,
        clock: Clock,
        jitter: Jitter = random.random,
    ) -> None:
        self._directories = directories
        self._sources = sources
        self._clock = clock
        self._jitter = jitter
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._attempts: dict[str, int] = {}
        self._unwanted: dict[str, float] = {}

    async def existing(self) -> Iterable[str]:
        places = self._directories.present()
        found = {f"sha256:{name}" for place in places for name in names_in(place)}
        return [key for key in found if oci.is_digest(key)]

    async def reconcile(
        self, key: str, spec: BlobRequest | None, inputs: Inputs, report: Report[BlobDownload]
    ) -> BlobDownload | None:
        if not oci.is_digest(key):
            raise Refuse(f"cannot fetch {key!r}: it is no sha256 digest")
        name = oci.hex_of(Digest(key))
        if spec is None:
            places = self._directories.present()
            self._leave(key, [Partial(place, name) for place in places], inputs)
            return None
        if not self._directories.of(spec).is_dir():
            raise Retry("the vault is not open")  # its opening starts this service anew
        partial = Partial(self._directories.of(spec), name)
        self._unwanted.pop(key, None)
        if self._attempts.get(key, 0) != spec.attempt:  # also after a restart, if not the first
            partial.discard()
        self._attempts[key] = spec.attempt
        size = partial.whole_size()
        if size is not None:
            return _done(spec, partial, size)
        job = _Job(spec, partial, inputs.get(BLOB_DOWNLOAD, key), report, self._clock)
        await self._while_wanted(key, spec, inputs, self._fetch_in_turn(job, inputs))
        size = partial.whole_size()
        return job.status() if size is None else _done(spec, partial, size)

    def _leave(self, key: str, partials: list[Partial], inputs: Inputs) -> None:
        grace = GRACE if key in self._attempts else LEFTOVER_GRACE
        since = self._unwanted.setdefault(key, inputs.monotonic)
        left = since + grace - inputs.monotonic
        if left > 0:
            raise Retry("no longer wanted; its bytes go", after=left)
        for partial in partials:
            partial.discard()
        self._attempts.pop(key, None)
        self._unwanted.pop(key, None)

    async def _while_wanted(
        self, key: str, spec: BlobRequest, inputs: Inputs, work: Coroutine[Any, Any, None]
    ) -> None:
        """Stops `work` when the request changes or goes: it may hang for long otherwise."""
        working = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self._until_changed(key, spec, inputs))
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def _until_changed(self, key: str, spec: BlobRequest, inputs: Inputs) -> None:
        while inputs.get(BLOB_REQUEST, key) == spec:
            await self._clock.sleep(1.0)

    async def _fetch_in_turn(self, job: _Job, inputs: Inputs) -> None:
        async with self._slots:
            await self._fetch(job, inputs)

    async def _fetch(self, job: _Job, inputs: Inputs) -> None:
        """Raises Retry or Refuse after putting the reason into the status."""
        spec, began = job.spec, job.partial.size()
        failures: list[Exception] = []
        await job.report(job.status())
        for datastore in spec.datastores:
            try:
                async with self._sources.use(datastore, inputs) as source:
                    await self._transfer(job, source)
                return
            except CannotFetch as failure:
                failures.append(failure)
            except DiskFull as failure:
                failures = [failure]
                break
        await self._fail(job, inputs, failures, progressed=job.partial.size() > began)

    async def _fail(
        self, job: _Job, inputs: Inputs, failures: list[Exception], *, progressed: bool
    ) -> None:
        why = "; ".join(map(str, failures)) or f"cannot fetch {job.spec.url}: no datastore is named"
        if any(isinstance(failure, TooBig) for failure in failures):
            job.partial.discard()
            await job.report(job.status(SwState.FAILED, worsen(None, why, inputs.now)))
            raise Refuse(why)
        before = None if progressed else job.trouble
        seconds = delay((before.attempts if before else 0) + 1, inputs, self._jitter)
        now = self._clock.now()
        await job.report(job.status(trouble=worsen(before, why, now, seconds)))
        raise Retry(why, after=seconds)

    async def _transfer(self, job: _Job, source: Source) -> None:
        """One try from one datastore; whole when it returns."""
        spec, partial = job.spec, job.partial
        offset = partial.size()
        if spec.size and offset >= spec.size:
            if offset == spec.size:
                await partial.finish()
                return
            partial.discard()
            offset = 0
        wanted = Wanted(spec.url, spec.digest, spec.is_manifest)
        try:
            async with source.open(wanted, offset) as transfer:
                await self._receive(job, transfer)
                media_type = transfer.media_type
        except BeyondEnd:
            partial.discard()
            raise
        await partial.finish(media_type)

    async def _receive(self, job: _Job, transfer: Transfer) -> None:
        bound = job.spec.size or job.spec.max_size
        job.size = transfer.size or job.spec.size
        if bound and job.size > bound:
            raise TooBig(
                f"cannot fetch {job.spec.url}: it has {job.size} bytes, allowed are {bound}"
            )
        self._check_room(job.spec, job.size - transfer.offset)
        async with job.partial.append(transfer.offset) as writer:
            async for chunk in transfer.chunks:
                if bound and writer.size + len(chunk) > bound:
                    raise TooBig(f"cannot fetch {job.spec.url}: it has more than {bound} bytes")
                await writer.write(chunk)
                await job.progress(writer.size)
        if job.size and writer.size < job.size:
            raise CannotFetch(
                f"cannot fetch {job.spec.url}: it ended at byte {writer.size} of {job.size}"
            )

    def _check_room(self, spec: BlobRequest, needed: int) -> None:
        usable = room(self._directories.of(spec)).usable
        if needed > usable:
            raise DiskFull(f"cannot download: {needed} bytes needed, {usable} free on the disk")


class _Job:
    """One blob on its way, and what is told about it."""

    def __init__(
        self,
        spec: BlobRequest,
        partial: Partial,
        before: BlobDownload | None,
        report: Report[BlobDownload],
        clock: Clock,
    ) -> None:
        self.spec = spec
        self.partial = partial
        self.report = report
        self.size = spec.size
        self.trouble = before.trouble if before and before.attempt == spec.attempt else None
        self._clock = clock
        self._told = float("-inf")

    def status(
        self,
        state: SwState = SwState.DOWNLOADING,
        trouble: Trouble | None = None,
        received: int | None = None,
    ) -> BlobDownload:
        return BlobDownload(
            digest=self.spec.digest,
            state=state,
            received=self.partial.size() if received is None else received,
            size=self.size,
            attempt=self.spec.attempt,
            trouble=trouble or (self.trouble if received is None else None),
        )

    async def progress(self, received: int) -> None:
        """Bytes come: whatever the trouble was, it is over."""
        now = self._clock.monotonic()
        if now >= self._told + REPORT_EVERY:
            self._told = now
            await self.report(self.status(received=received))


def _done(spec: BlobRequest, partial: Partial, size: int) -> BlobDownload:
    return BlobDownload(
        digest=spec.digest,
        state=SwState.DOWNLOADED,
        received=size,
        size=size,
        media_type=partial.media_type(),
        attempt=spec.attempt,
    )
