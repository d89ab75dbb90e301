"""What is told of the disk, again and again, while others promise of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edgevirt.model.kinds import STORAGE_USE
from edgevirt.node.volumes.ledger import Ledger
from edgevirt.node.volumes.storage_report import report_storage
from edgevirt.runtime import VirtualClock
from edgevirt.runtime.memory import MemoryStore


async def test_promises_that_are_made_meanwhile_do_not_end_it(tmp_path: Path) -> None:
    """A dict that grows while a thread goes through it would."""
    ledger, store, clock = Ledger(tmp_path), MemoryStore(), VirtualClock()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def taken() -> int:
        loop.call_soon_threadsafe(asked.set)
        for number in range(50):  # whoever goes on meanwhile, as a thread of its own lets him
            loop.call_soon_threadsafe(ledger.promise, f"late{number}#1", 1, int)
        return 0

    for number in range(20):
        ledger.promise(f"volume{number}#1", 1 << 20, taken)
    telling = asyncio.create_task(report_storage(ledger, store, clock))
    await asked.wait()
    await asyncio.sleep(0)
    assert not telling.done()
    use = await store.get(STORAGE_USE, "node")
    assert use is not None
    assert use.value.volumes == 20 << 20
    telling.cancel()
