"""Work that takes a security module's time, away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """One thread: a module does one thing at a time anyway. Without a `module` there is nothing
    to wait for, and work is done on the spot.
    """

    def __init__(self, *, module: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="module") if module else None

    async def run(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
