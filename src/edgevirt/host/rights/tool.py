"""Tools that read what somebody else made: each run is in a cell, and has a bound on its time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from edgevirt.host.rights.cell import ENVIRONMENT, PROGRAM_IN_CELL, Cell

_MOST_SAID: Final = 1 << 20
_MOST_WORDS: Final = 500


class ToolFailed(Exception):
    """It ended with an error: its last words."""

    @property
    def full(self) -> bool:
        """There was no room on the disk."""
        return "No space left" in str(self)


async def run_tool(cell: Cell, seconds: float) -> bytes:
    """What it printed. Raises ToolFailed, and TimeoutError after `seconds`; it has ended then."""
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM_IN_CELL, "run", cell.encode().decode()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(ENVIRONMENT),
    )
    try:
        async with asyncio.timeout(seconds):
            said, why = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ToolFailed(" ".join(why.decode(errors="replace").split())[-_MOST_WORDS:])
    return said[:_MOST_SAID]
