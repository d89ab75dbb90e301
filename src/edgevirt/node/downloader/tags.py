"""TagRequest → TagAnswer: asks registries which digest a tag stands for. Once: tags move."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from edgevirt.host.fetch import CannotFetch, NotThere
from edgevirt.model.content import TagAnswer, TagRequest
from edgevirt.model.kinds import PROPERTY, TAG_ANSWER, TAG_REQUEST
from edgevirt.node.downloader import sources
from edgevirt.node.downloader.retries import Jitter, delay
from edgevirt.node.troubles import worsen
from edgevirt.runtime import Inputs, Kind, Report, Retry

_HINT = "push it to the registry, or name another tag in the Image"


class TagReconciler:
    name = "tags"
    spec: Kind[Any] = TAG_REQUEST
    status: Kind[Any] = TAG_ANSWER
    reads: tuple[Kind[Any], ...] = (*sources.READS, PROPERTY)
    recheck: float | None = None

    def __init__(self, sources: sources.Sources, jitter: Jitter = random.random) -> None:
        self._sources = sources
        self._jitter = jitter

    async def existing(self) -> Iterable[str]:
        return ()

    async def reconcile(
        self, key: str, spec: TagRequest | None, inputs: Inputs, report: Report[TagAnswer]
    ) -> TagAnswer | None:
        if spec is None:
            return None
        before = inputs.get(TAG_ANSWER, key)
        if before is not None and (before.url, before.attempt) != (spec.url, spec.attempt):
            before = None
        if before is not None and before.digest is not None:
            return before
        failures, hint = [], ""
        for datastore in spec.datastores:
            try:
                async with self._sources.use(datastore, inputs) as source:
                    digest = await source.resolve(spec.url)
                    return TagAnswer(url=spec.url, attempt=spec.attempt, digest=digest)
            except CannotFetch as failure:
                failures.append(str(failure))
                hint = _HINT if isinstance(failure, NotThere) else hint
        why = "; ".join(failures) or f"cannot fetch {spec.url}: no datastore is named"
        trouble = before.trouble if before is not None else None
        seconds = delay((trouble.attempts if trouble else 0) + 1, inputs, self._jitter)
        trouble = worsen(trouble, why, inputs.now, seconds, hint)
        await report(TagAnswer(url=spec.url, attempt=spec.attempt, trouble=trouble))
        raise Retry(why, after=seconds)
