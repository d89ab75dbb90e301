"""The logs service: a bundle is announced, and goes only when the controller has it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edgevirt.model import kinds
from edgevirt.model.node import LogUpload
from edgevirt.node.logs.service import SERVICE
from edgevirt.node.paths import Paths
from edgevirt.node.service import Context, Settings
from edgevirt.runtime import VirtualClock
from edgevirt.runtime.engine import guard
from edgevirt.runtime.memory import MemoryStore


async def test_a_bundle_waits_until_the_controller_acknowledged_it(tmp_path: Path) -> None:
    paths = Paths(config=tmp_path / "c", persist=tmp_path / "p", run=tmp_path / "r")
    paths.service_logs.mkdir(parents=True)
    paths.console_logs.mkdir(parents=True)
    (paths.service_logs / "agent.log").write_text("hello\n")
    whole = MemoryStore()
    clock = VirtualClock()
    store = guard(whole, SERVICE.reads, SERVICE.owns)
    task = asyncio.create_task(SERVICE.run(Context("logs", store, clock, paths, Settings())))
    try:
        for _ in range(6):
            await clock.advance(1)
        [name] = await whole.list(kinds.LOG_BUNDLE)
        waiting = paths.newlog / "devUpload" / name
        assert waiting.exists()

        await whole.put(kinds.LOG_UPLOAD, name, LogUpload(accepted=True))
        await clock.advance(1)
        assert await whole.list(kinds.LOG_BUNDLE) == {}
        assert not waiting.exists()
        assert (paths.newlog / "keepSentQueue" / name).exists()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
