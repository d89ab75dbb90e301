"""From a config that adds an app whose image is present to the app's process, on a whole node.

A real fleet, registry and host-mode node. From the moment at which the node's agent accepted the
config (its log says when) to the start of the container's first process (the kernel says when, in
ticks of 10 ms): every service of the node in between, with a volume, a file system in it, a network
namespace and its rules. Beside it: the median of `runc run --detach` from the `app_start` bench.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import app_start
from edgevirt.client.client import Client
from edgevirt.client.resources import Object
from edgevirt.node import launch
from examples.hello import run as hello
from examples.hello.nodes import HostNode

ROUNDS = 5
PATIENCE = 60.0
AIM_MORE_MS = 150.0


def run() -> list[dict[str, Any]]:
    bare = next(row["beside_value"] for row in app_start.run())
    with tempfile.TemporaryDirectory() as directory, hello.running(Path(directory)) as job:
        registry, nodes, operators = (hello.free_port(p) for p in (5000, 8443, 6443))
        hello.start_registry(job, registry)
        hello.push_image(job, registry)
        client: Client = hello.start_fleet(job, nodes, operators)
        config = hello.configure_node(job, nodes)
        hello.let_in(job, client, config)
        node = HostNode(job)
        began = time.time()
        node.start(config, nodes, registry)
        hello.apply_examples(client, node)
        hello.wait_for_answer(job, client, node, began)
        took = [_one_more(client, Path(directory), number) for number in range(ROUNDS)]
    value = statistics.median(took)
    return [
        {
            "name": "app start, from an accepted config, whole node",
            "value": value,
            "unit": "ms",
            "beside": "runc run --detach, same content",
            "beside_value": bare,
            "ratio": value / bare,
            "aim": f"≤ {AIM_MORE_MS:.0f} ms more",
        }
    ]


def _one_more(client: Client, state: Path, number: int) -> float:
    """Milliseconds from the accepted config to the process, for one more app of the same image."""
    root = _node_root(state)
    own = launch.HostNode(state / "node", state / "node-config").group
    before = time.time()
    present = set(_containers(own))
    for body in _manifests(number):
        client.apply(client.type_of(body["kind"]), "default", body, force=True)
    _until(lambda: set(_containers(own)) - present)
    [app] = set(_containers(own)) - present
    accepted = next(stamp for stamp in _accepted(root) if stamp >= before)
    return (_started(_containers(own)[app]) - accepted) * 1000


def _manifests(number: int) -> Iterator[Object]:
    name = f"more-{number}"
    head = {"apiVersion": "edgevirt.io/v1alpha1", "metadata": {"name": name}}
    volume = {"name": "data", "size": "16Mi", "mountPath": "/data"}
    yield {
        **head,
        "kind": "App",
        "spec": {
            "type": "Container",
            "image": "hello",
            "resources": {"cpu": 1, "memory": "64Mi"},
            "virtualization": "None",
            "volumes": [volume],
            "interfaces": [{"name": "eth0", "networkInstance": "apps"}],
        },
    }
    yield {**head, "kind": "AppInstance", "spec": {"app": name, "edgeNode": "hello-node"}}


def _node_root(state: Path) -> Path:
    """The node's file system, through the one of its processes that was started last."""
    mark = f"--state\0{state / 'node'}\0".encode()
    found = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and mark in _read(path / "cmdline")
    ]
    return Path(f"/proc/{max(found)}/root/run/edgevirt/run")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _accepted(root: Path) -> Iterator[float]:
    for line in _read(root / "logs/agent.log").splitlines():
        try:
            entry = json.loads(line.strip(b"\0"))
        except ValueError:
            continue  # its beginning was bundled and freed
        if entry["content"].startswith("config version"):
            yield entry["timestamp"]["seconds"] + entry["timestamp"]["nanos"] / 1e9


def _containers(own: str) -> dict[str, int]:
    """By app id, the container's first process. `own`: the node's control group."""
    found: dict[str, int] = {}
    for status in Path("/proc").glob("[0-9]*/cgroup"):
        for line in _read(status).decode().splitlines():
            group = line.rsplit(":", 1)[-1]
            if f"{own}-user-apps/" in group and _name(status.parent) == "httpd":
                found.setdefault(group.rsplit("/", 1)[-1], int(status.parent.name))
    return found


def _name(process: Path) -> str:
    return Path(_read(process / "cmdline").split(b"\0")[0].decode()).name


def _started(pid: int) -> float:
    """Wall clock."""
    ticks = int(_read(Path(f"/proc/{pid}/stat")).rsplit(b") ", 1)[1].split()[19])
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def _until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError("cannot measure: the app does not start")
        time.sleep(0.02)
