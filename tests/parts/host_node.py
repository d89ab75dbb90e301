"""A host-mode node in a process of its own, and what the kernel says of its processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

import edgevirt
from edgevirt.host.rights.namespace import Uplink
from edgevirt.node.launch import HostNode
from edgevirt.node.services import ROWS
from edgevirt.wire import certificates

HANG = 15.0
"""Seconds without a beat until a service is killed: none that merely waits for a busy machine."""
PATIENCE = 90.0
RUNNER = Path(__file__).parents[1] / "e2e/run_node.py"
HOME = "run/edgevirt"
SOURCES = (Path(edgevirt.__file__).parents[1], RUNNER.parent)
ENVIRONMENT = {**os.environ, "PYTHONPATH": ":".join(map(str, SOURCES))}


def eventually(found: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not found():
        assert time.monotonic() < end, f"not within {patience:.0f} s: {what}"
        time.sleep(0.1)


@dataclass
class Node:
    """A running node as seen from outside."""

    process: subprocess.Popen[bytes]
    state: Path

    @property
    def init(self) -> int:
        """Our number of the node's process 1."""
        return first_process(self.process.pid)

    @property
    def supervisor(self) -> int:
        return next((pid for pid in children_of(self.init) if services_of(pid)), 0)

    def pid(self, service: str) -> int:
        """0 while it isn't running, or has not given up its rights yet."""
        pid = services_of(self.supervisor).get(service, 0)
        return pid if pid and status(pid, "Seccomp") == ["2"] else 0

    def up(self) -> bool:
        found = services_of(self.supervisor)
        return all(
            row.name in found and status(found[row.name], "Seccomp") == ["2"] for row in ROWS
        )

    def file(self, name: str) -> Path:
        return Path(f"/proc/{self.init}/root/{HOME}/{name}")

    def log(self, service: str) -> str:
        return self.file(f"run/logs/{service}.log").read_text(errors="replace").replace("\0", "")


def status(pid: int, field: str) -> list[str]:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return line.split(":", 1)[1].split()
    return []


def first_process(outer: int) -> int:
    """Our number of the process 1 that `outer` started in a namespace of its own; 0: none."""
    return next((pid for pid in children_of(outer) if status(pid, "NSpid")[-1:] == ["1"]), 0)


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def services_of(supervisor: int) -> dict[str, int]:
    named = {name_of(pid): pid for pid in children_of(supervisor)}
    return {name[3:]: pid for name, pid in named.items() if name.startswith("ev-")}


def make_config(directory: Path) -> None:
    """What a node is given whose controller is not there."""
    directory.mkdir(exist_ok=True)
    (directory / "server").write_text("controller.test:1\n")
    key = ec.generate_private_key(ec.SECP256R1())
    validity = certificates.Validity(
        datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)
    )
    root = certificates.make_root("root", key, validity)
    (directory / "root-certificate.pem").write_bytes(certificates.to_pem(root))


def command(tmp_path: Path, **more: Any) -> list[str]:
    """`more`: see run_node.py. State and config are below `tmp_path`."""
    wanted = {"state": str(tmp_path / "state"), "config": str(tmp_path / "config"), **more}
    return [sys.executable, str(RUNNER), json.dumps({"hang": HANG, **wanted})]


def start(tmp_path: Path, **more: Any) -> Node:
    if not (tmp_path / "config").exists():
        make_config(tmp_path / "config")
    process = subprocess.Popen(command(tmp_path, **more), env=ENVIRONMENT)
    return Node(process, tmp_path / "state")


@contextlib.contextmanager
def running(tmp_path: Path, **more: Any) -> Iterator[Node]:
    node = start(tmp_path, **more)
    try:
        eventually(node.up, "all services run")
        yield node
    finally:
        if node.process.poll() is None:
            node.process.send_signal(signal.SIGTERM)
        try:
            node.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            node.process.kill()
            raise


def group_of(state: Path) -> str:
    return HostNode(state, state).group


def leftovers(state: Path) -> list[str]:
    """What a node left on the machine: control groups, links and packet filters."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{group_of(state)}*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"{group_of(state)}*")]
    suffix = Uplink(state).table.removeprefix("edgevirt_")
    for listing in (("ip", "-o", "link"), ("nft", "list", "tables")):
        said = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        found += [line for line in said.splitlines() if suffix in line]
    return found
