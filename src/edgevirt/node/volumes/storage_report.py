"""Tells where the disk went, again and again: apps fill their volumes without a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edgevirt.model.kinds import BLOB_STATUS, PROPERTY, STORAGE_USE
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.runtime import Clock, Kind, Store
from edgevirt.runtime.access import View

INTERVAL: Final = 30.0
"""Seconds."""
READS: Final[tuple[Kind[Any], ...]] = (BLOB_STATUS, PROPERTY)


async def report_storage(ledger: Ledger, store: Store, clock: Clock) -> None:
    """Never returns."""
    while True:
        tables: dict[str, Mapping[str, Any]] = {}
        for kind in READS:
            found = await store.list(kind)
            tables[kind.name] = {key: item.value for key, item in found.items()}
        view = View(tables, now=clock.now(), monotonic=clock.monotonic())
        # not in a thread: others promise meanwhile
        await store.put(STORAGE_USE, "node", ledger.use(view))
        await clock.sleep(INTERVAL)
