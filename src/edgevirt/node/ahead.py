"""The first supervisor, started before the machine is ready for it.

What it loads takes about as long as the machine's disks do, and neither needs the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TypeVar

from edgevirt.node.init import fork_supervisor

Ready = TypeVar("Ready")


class Ahead:
    """A process that gets ready, and goes on with what it is told then. `pid`: for `be_init`."""

    def __init__(
        self, get_ready: Callable[[], Ready], go_on: Callable[[Ready, bytes], int]
    ) -> None:
        """`go_on`: gets what the other one returned, and what was told; returns the exit code."""
        theirs, self._ours = os.pipe()

        def supervise() -> int:
            os.close(self._ours)
            ready = get_ready()
            with open(theirs, "rb") as told:
                return go_on(ready, told.read())

        self.pid = fork_supervisor(supervise)
        os.close(theirs)

    def tell(self, what: bytes) -> None:
        """Once. Also when it has ended: whoever waits for its end learns of that."""
        with contextlib.suppress(BrokenPipeError), open(self._ours, "wb") as line:
            line.write(what)
