"""Starts a host-mode node, for tests that have to look at it from outside, or kill it.

`modules`: by name, the services to run, and another module than a service's own. `forwards`: ports
of this machine's loopback that it reaches as `controller.test`. `tpm`: a socket of swtpm's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from msgspec.structs import replace

from edgevirt.node.launch import HostNode, run_host_node
from edgevirt.node.services import ROWS
from edgevirt.node.supervisor.keeping import Limits

if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    modules = wanted.get("modules")
    rows = [row for row in ROWS if modules is None or row.name in modules]
    rows = [replace(row, module=(modules or {}).get(row.name) or row.module) for row in rows]
    node = HostNode(
        state=Path(wanted["state"]),
        config=Path(wanted["config"]),
        serial=wanted.get("serial", ""),
        hosts={"controller.test": ""},
        forwards={port: port for port in wanted.get("forwards", ())},
        limits=Limits(hang=wanted["hang"], first=0.1, grace=5.0),
        beat=0.2,
        stop_seconds=5.0,
        rows=tuple(rows),
        tpm=Path(wanted["tpm"]) if "tpm" in wanted else None,
    )
    sys.exit(run_host_node(node))
