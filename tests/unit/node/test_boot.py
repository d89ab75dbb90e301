"""Process 1 of the operating system: what it loads, each of which a machine's start waits for."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "ssl", "edgevirt.runtime", "edgevirt.node.supervisor", "edgevirt.wire.messages")


def test_what_only_the_supervisor_needs_is_not_loaded_before_it_is_forked() -> None:
    program = "import sys, edgevirt.node.boot; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "edgevirt.node.boot" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []
