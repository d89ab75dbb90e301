"""What a node without apps takes of the machine's memory, all its services and the supervisor.

A whole host-mode node, its controller not answering. The figure is the sum of each process's
proportional share (PSS): what processes share is counted once. Beside it: the resident size of the
process that holds EVE's agents, with two of them running. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edgevirt.node.launch import HostNode, run_host_node
from edgevirt.node.services import ROWS
from edgevirt.wire import certificates

AIM_MB = 96
EVE_MB = 95 * (1 << 20) / 1e6
"""EVE's agent process, measured on a machine of the same kind: 95 MiB."""
SETTLE = 20.0
SAMPLES = 3
MEGA = 1e6


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory, _node(Path(directory)) as process:
        time.sleep(SETTLE)
        samples = []
        for _ in range(SAMPLES):
            samples.append({name: _memory(pid) for name, pid in _services(process.pid).items()})
            time.sleep(1)
    if set(samples[-1]) != {"supervisor process", *(row.name for row in ROWS)}:
        raise RuntimeError(f"cannot measure the node: only {sorted(samples[-1])} run")
    total = sorted(sum(each["Pss"] for each in sample.values()) for sample in samples)[SAMPLES // 2]
    private = [each["Private_Dirty"] for each in samples[-1].values()]
    rows = [_row("node memory, all services", total, EVE_MB, "EVE's process of agents", AIM_MB)]
    rows.append(_row("  of it one service's own, median", sorted(private)[len(private) // 2]))
    for name, each in sorted(samples[-1].items()):
        rows.append(_row(f"  share of {name}", each["Pss"]))
    return rows


def _row(
    name: str, size: int, beside: float | None = None, what: str = "", aim: float | None = None
) -> dict[str, Any]:
    value = size / MEGA
    return {
        "name": name,
        "value": value,
        "unit": "MB",
        "beside": what,
        "beside_value": beside,
        "ratio": None if beside is None else value / beside,
        "aim": "" if aim is None else f"≤ {aim} MB",
    }


@contextlib.contextmanager
def _node(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = directory / "config"
    config.mkdir()
    (config / "server").write_text("controller.invalid\n")
    validity = certificates.Validity(
        datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)
    )
    root = certificates.make_root("root", ec.generate_private_key(ec.SECP256R1()), validity)
    (config / "root-certificate.pem").write_bytes(certificates.to_pem(root))
    process = subprocess.Popen(
        [sys.executable, __file__, str(directory)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _services(outer: int) -> dict[str, int]:
    """The supervisor and its children, by name; init and the outer process aren't services."""
    for init in _children(outer):
        for supervisor in _children(init):
            found = {_name(pid): pid for pid in _children(supervisor)}
            services = {name[3:]: pid for name, pid in found.items() if name.startswith("ev-")}
            if services:
                return {"supervisor process": supervisor, **services}
    return {}


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _memory(pid: int) -> dict[str, int]:
    """Bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in fields}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    sys.exit(run_host_node(HostNode(state=place / "state", config=place / "config")))
