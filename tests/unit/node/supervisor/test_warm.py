"""The parent of all services while it warms up, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(60)

_PROGRAM = """
import os, signal
import msgspec
from edgevirt.node.supervisor import warm

async def is_asked_meanwhile(context):
    os.kill(os.getpid(), signal.{name})

warm._SERVICE = msgspec.structs.replace(warm._SERVICE, run=is_asked_meanwhile)
warm.warm_up(os.geteuid())
"""


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_asked_to_stop_while_it_warms_up_does_not_miss_it(
    asked: signal.Signals,
) -> None:
    program = _PROGRAM.format(name=asked.name)
    ended = subprocess.run([sys.executable, "-c", program], timeout=50, check=False)
    assert ended.returncode == -asked
