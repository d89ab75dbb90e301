"""The main job, on this machine: a fleet, a registry, one edge node, and an app that answers.

`make run` starts it; Ctrl-C ends all of it. `--once` checks the answer and stops: exit 0 or 1.
The node boots its operating system in a machine of its own, or (`--host`) runs on our kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from edgevirt.client.client import Client
from edgevirt.client.errors import ClientError, Refused
from edgevirt.client.kubeconfig import load_connection
from edgevirt.client.resources import Object
from edgevirt.image.eci.oci import Pusher, make_image, pack_layer
from edgevirt.model.content import ImageConfig
from examples.hello.job import Failed, Job, interrupts, out
from examples.hello.nodes import APP_PORT, NAME, SERIAL, HostNode, MachineNode, Node

HERE = Path(__file__).parent
READY = 60.0
"""Seconds that a program gets to be ready."""


def edgevirt(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "edgevirt", *arguments)


def free_port(wanted: int) -> int:
    """`wanted` on loopback, or another one when somebody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found: int = probe.getsockname()[1]
                return found
    raise Failed("cannot find a free port on loopback")


def wait_for(job: Job, what: str, ready: Any) -> None:
    deadline = time.monotonic() + READY
    while not ready():
        job.check()
        if time.monotonic() > deadline:
            raise Failed(f"cannot go on: {what} is not ready after {READY:.0f} s; see {job.logs}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    return False


# -- the steps -------------------------------------------------------------------------------------


def start_registry(job: Job, port: int) -> None:
    """Returns before it is ready."""
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(job.state / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": secrets.token_hex(16)},
    }
    path = job.state / "registry.yml"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    job.start("registry", "docker-registry", "serve", str(path))


def push_image(job: Job, port: int) -> str:
    """A web server from Debian's busybox; returns the image's digest."""
    wait_for(job, "the registry", lambda: answers(f"http://127.0.0.1:{port}/v2/"))
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Failed("cannot make the image: Debian's busybox-static is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        for folder in ("bin", "dev", "proc", "sys", "tmp", "etc", "data", "www/cgi-bin"):
            (root / folder).mkdir(parents=True)
        shutil.copy(busybox, root / "bin/busybox")
        for applet in ("sh", "wc", "httpd"):
            (root / "bin" / applet).symlink_to("busybox")
        script = root / "www/cgi-bin/index.cgi"
        shutil.copy(HERE / "image/index.cgi", script)
        script.chmod(0o755)
        layer = pack_layer(root, Path(scratch, "layer.tar.gz"))
        config = ImageConfig(
            entrypoint=("/bin/httpd", "-f", "-v", "-p", "80", "-h", "/www"),
            env=("PATH=/bin",),
        )
        image = make_image([layer], config)
        return asyncio.run(_push(image, port))


async def _push(image: Any, port: int) -> str:
    pusher = Pusher(f"127.0.0.1:{port}")
    try:
        return str(await pusher.push(image, "hello:1.0"))
    finally:
        await pusher.close()


def start_fleet(job: Job, nodes: int, operators: int) -> Client:
    """Returns when it has its keys, and before it answers."""
    data = str(job.state / "fleet")
    kubeconfig = job.state / "kubeconfig"
    where = ("--nodes", f"127.0.0.1:{nodes}", "--operators", f"127.0.0.1:{operators}")
    init = edgevirt("fleet", "init", "--data", data, *where, "--kubeconfig", str(kubeconfig))
    done = subprocess.run(init, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"cannot set up the fleet: {done.stderr.strip()}")
    job.start("fleet", *edgevirt("fleet", "run", "--data", data, *where, "--san", "fleet.local"))
    return Client(load_connection(kubeconfig))


def configure_node(job: Job, nodes: int) -> Path:
    """What a node is given, once: whom to call, whom to trust, how to ask to be let in."""
    config = job.state / "node-config"
    if not (config / "onboard.key.pem").exists():
        command = edgevirt(
            *("fleet", "node-config", str(config), "--data", str(job.state / "fleet")),
            *("--server", f"fleet.local:{nodes}", "--serial", SERIAL),
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"cannot configure the node: {done.stderr.strip()}")
    (config / "server").write_text(f"fleet.local:{nodes}\n")
    return config


def let_in(job: Job, client: Client, config: Path) -> None:
    """The node, whose config this is: when it asks it is approved."""

    def ready() -> bool:
        with contextlib.suppress(ClientError):
            return bool(client.types())
        return False

    wait_for(job, "the fleet", ready)
    key: Object = {
        "apiVersion": "edgevirt.io/v1alpha1",
        "kind": "OnboardingKey",
        "metadata": {"name": "workshop"},
        "spec": {
            "certificate": (config / "onboard.cert.pem").read_text(),
            "serials": [SERIAL],
            "autoApprove": True,
        },
    }
    client.apply(client.type_of("OnboardingKey"), "default", key, force=True)


def apply_examples(client: Client, node: Node) -> None:
    for path in sorted(HERE.glob("*.yaml")):
        body = yaml.safe_load(path.read_text())
        if body["kind"] == "Datastore":
            body["spec"]["url"] = f"docker://registry.local:{node.registry_port}"
        client.apply(client.type_of(body["kind"]), "default", body, force=True)
        out.print(f"  {body['kind']}/{body['metadata']['name']}")


def in_words(status: Mapping[str, Any]) -> str:
    return f"{status.get('state', '')}  {status.get('what', '')}".strip()


def runs_since(status: Mapping[str, Any], began: float) -> bool:
    """Whether the app runs, and was started at `began` (wall clock) or later: what the node told
    before it was stopped the last time stays told until it tells anew.
    """
    told = status.get("bootTime")
    if status.get("state") != "RUNNING" or not told:
        return False
    return datetime.datetime.fromisoformat(told).timestamp() >= int(began)


def wait_for_answer(job: Job, client: Client, node: Node, began: float) -> tuple[str, str]:
    """Shows the states as they pass; returns the URL and what it answered."""
    deadline = time.monotonic() + node.answer_seconds
    type_ = client.type_of("AppInstance")
    shown = ""
    while time.monotonic() < deadline:
        job.check()
        node.check()
        with contextlib.suppress(Refused):
            status = client.get(type_, "default", "hello").get("status", {})
            runs = runs_since(status, began)
            told = in_words(status)
            stale = status.get("state") == "RUNNING" and not runs
            if told and told != shown and not stale:
                out.print(f"  hello  {told}")
                shown = told
            if runs:
                url = node.url(_address(client))
                with contextlib.suppress(httpx.HTTPError):
                    answer = httpx.get(url, timeout=2.0, trust_env=False)
                    if answer.status_code == 200:
                        return url, answer.text.strip()
        time.sleep(0.1)
    raise Failed(
        f"cannot reach the app: no answer in {node.answer_seconds:.0f} s "
        f"(last state: {shown or 'none'}); see {job.logs}"
    )


def _address(client: Client) -> str:
    """What the node told of itself."""
    node = client.get(client.type_of("EdgeNode"), "default", NAME)
    told = node.get("status", {}).get("addresses") or []
    found = (str(port["address"]) for port in told if port.get("address"))
    return next(found, "0.0.0.0").partition("/")[0]  # noqa: S104


# -- the whole -------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(state: Path) -> Iterator[Job]:
    job = Job(state)
    try:
        yield job
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # asking twice must not leave half of it running
        out.print("stopping")
        job.stop()


def run(state: Path, once: bool, host: bool) -> None:
    began, since = time.monotonic(), time.time()
    with running(state) as job:
        registry, nodes, operators = free_port(5000), free_port(8443), free_port(6443)
        node = HostNode(job) if host else MachineNode(job.state, free_port(APP_PORT), registry)
        job.stop_first = node.stop
        out.print("[bold]registry[/]: starting")
        start_registry(job, registry)
        out.print("[bold]fleet[/]: starting")
        client = start_fleet(job, nodes, operators)
        config = configure_node(job, nodes)
        out.print("[bold]node[/]: starting; it onboards by itself")
        node.start(config, nodes, registry)
        # a node takes longest to start, and needs none of this before
        out.print("[bold]image[/]: pushing one made from Debian's busybox")
        out.print(f"  127.0.0.1:{registry}/hello:1.0 {push_image(job, registry)[:19]}…")
        let_in(job, client, config)
        out.print("[bold]manifests[/]: applying examples/hello")
        apply_examples(client, node)
        out.print("[bold]app[/]: waiting for it")
        url, text = wait_for_answer(job, client, node, since)
        seconds = time.monotonic() - began
        out.print(f"[bold green]the app answers[/] at {url} ({seconds:.1f} s after the start):")
        out.print(f"  {text}")
        if f"hello from {NAME}" not in text:
            raise Failed(f"cannot accept the answer: {text!r} does not name the node")
        if not once:
            stay(job, node, url)


def stay(job: Job, node: Node, url: str) -> None:
    out.print("\nThings to try, in another terminal:")
    for line in (
        f"export PATH={Path(sys.executable).parent}:$PATH",
        f"export KUBECONFIG={job.state / 'kubeconfig'}",
        f"export EDGEVIRT_FLEET_DATA={job.state / 'fleet'}",
        f"curl {url}",
        "edgevirt get nodes,instances",
        "edgevirt describe instance hello",
        "edgevirt logs hello -f",
        "edgevirt top apps",
        "edgevirt restart hello",
        "kubectl get appinstances -o wide --watch",
    ):
        out.print(f"  {line}", soft_wrap=True)
    out.print("\nCtrl-C ends all of it.")
    while True:
        time.sleep(0.5)
        job.check()
        node.check()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="check the answer, then stop")
    parser.add_argument("--state", type=Path, default=Path(".run"), help="where data is kept")
    parser.add_argument("--host", action="store_true", help="a node on this machine's kernel")
    options = parser.parse_args()
    if options.host and os.geteuid() != 0:
        out.print("cannot run the example: a node in host mode needs root for its namespaces")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores SIGINT
        signal.signal(number, interrupts)
    try:
        run(options.state.resolve(), options.once, options.host)
    except (Failed, ClientError) as error:
        out.print(f"[bold red]failed[/]: {error}", markup=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
