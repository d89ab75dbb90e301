"""How long the fleet takes from the start of its process to its first answer with a config, and how
much memory it takes then, with no nodes and with 100,000.

Beside the start stands a Python process that imports the same libraries and ends.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fleet_world import Signer, make_keys, seed, serving, settle, wait_until_ready

MANY = 100_000
ROUNDS = 3
IMPORTS = (
    "uvloop, httptools, cryptography.x509, sqlalchemy, apsw, starlette, uvicorn, "
    "google.protobuf.message"
)
MEBI = 1 << 20


def _import_seconds() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {IMPORTS}"], check=True)
    return time.monotonic() - began


def run() -> list[dict[str, Any]]:
    keys = make_keys()
    signer = Signer(keys)
    bare = statistics.median(_import_seconds() for _ in range(ROUNDS))
    found: dict[int, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for count in (1, MANY):
            data = Path(directory, str(count), "fleet")
            nodes = seed(data, count, keys)
            starts, memory = [], []
            for _ in range(ROUNDS):
                with serving(data) as server:
                    starts.append(wait_until_ready(server, signer, nodes[-1]))
                    settle(server)
                    memory.append(server.pss())
            found[count] = statistics.median(starts), statistics.median(memory) / MEBI
    (empty_start, empty_memory), (full_start, full_memory) = found[1], found[MANY]
    return [
        _row("fleet, start to first config", empty_start, "s", "its libraries' import", bare),
        _row(f"… with {MANY:,} nodes", full_start, "s", "one node", empty_start),
        _row("fleet, memory (PSS)", empty_memory, "MiB", None, None),
        _row(f"… with {MANY:,} nodes", full_memory, "MiB", "one node", empty_memory),
        _row("… for each node", (full_memory - empty_memory) * MEBI / MANY, "B", None, None),
    ]


def _row(
    name: str, value: float, unit: str, beside: str | None, theirs: float | None
) -> dict[str, Any]:
    return {
        "name": name, "value": value, "unit": unit, "beside": beside, "beside_value": theirs,
        "ratio": value / theirs if theirs else None, "aim": "",
    }  # fmt: skip
