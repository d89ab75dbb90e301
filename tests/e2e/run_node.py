"""Starts a host-mode node, for tests that have to look at it from outside, or kill it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgevirt.node.launch import HostNode, run_host_node
from edgevirt.node.supervisor.keeping import Limits

if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    node = HostNode(
        state=Path(wanted["state"]),
        config=Path(wanted["config"]),
        hosts={"controller.test": ""},
        limits=Limits(hang=wanted["hang"], first=0.1, grace=5.0),
        beat=0.2,
        stop_seconds=5.0,
    )
    sys.exit(run_host_node(node))
